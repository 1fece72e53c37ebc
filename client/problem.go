package client

import "fmt"

// Problem is an RFC 9457 problem: what every refusal of the API carries.
type Problem struct {
	Type   string         `json:"type" doc:"urn:holdfast:problem: and a stable code"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Errors []ProblemField `json:"errors,omitempty" doc:"What is wrong with the request, by place"`
}

// ProblemField is one fault of a request.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
}

// ProblemPrefix starts every problem's type.
const ProblemPrefix = "urn:holdfast:problem:"

// Error gives the code and the detail.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s = fmt.Sprintf("%s: %s", p.Title, p.Detail)
	}
	for _, e := range p.Errors {
		s += fmt.Sprintf("\n  %s: %s", e.Location, e.Message)
	}
	return s
}
