package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"holdfast/chaos/check"
)

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Failure *junitNote `xml:"failure"`
	Error   *junitNote `xml:"error"`
	Skipped *junitNote `xml:"skipped"`
	Out     string     `xml:"system-out,omitempty"`
}

type junitNote struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report for CI: a check is a test case, a violation a
// failure, an undecided check an error, and one that was not exercised is
// skipped.
func (r *Report) JUnit(w io.Writer) error {
	s := junitSuite{Name: "holdfast chaos " + r.Run.Scenario, Tests: len(r.Judgement.Verdicts), Time: fmt.Sprintf("%.3f", float64(r.Judgement.Duration)/1e9)}
	for _, v := range r.Judgement.Verdicts {
		c := junitCase{Class: "chaos." + string(v.Kind), Name: v.Check, Out: strings.Join(v.Evidence, "\n")}
		switch v.Outcome {
		case check.Violated:
			s.Failures++
			c.Failure = &junitNote{Message: fmt.Sprintf("%d violations; repeat with: %s", v.Count, r.Run.Command)}
			for _, x := range v.Violations {
				c.Failure.Text += fmt.Sprintf("%s %s %s\n", seconds(x.At), x.Task, x.Text)
			}
		case check.Undecided:
			s.Errors++
			c.Error = &junitNote{Message: v.Why}
		case check.NotExercised:
			s.Skipped++
			c.Skipped = &junitNote{Message: v.Why}
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
