package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/client"
	"holdfast/fsm"
)

// codes are the types of problems with the status and title of each.
var codes = map[string]struct {
	status int
	title  string
}{
	client.CodeInvalid:         {http.StatusUnprocessableEntity, "The request is not valid"},
	client.CodeNotFound:        {http.StatusNotFound, "Not found"},
	client.CodeConflict:        {http.StatusConflict, "The state does not allow it"},
	client.CodeUnauthenticated: {http.StatusUnauthorized, "Not authenticated"},
	client.CodeForbidden:       {http.StatusForbidden, "Not allowed"},
	client.CodeQueueFull:       {http.StatusTooManyRequests, "The queue is full"},
	client.CodeRateLimited:     {http.StatusTooManyRequests, "Too many requests"},
	client.CodeOverloaded:      {http.StatusTooManyRequests, "Too much at a time"},
	client.CodeUnavailable:     {http.StatusServiceUnavailable, "Not available now"},
	client.CodeTooLarge:        {http.StatusRequestEntityTooLarge, "Too large"},
	client.CodeTokenUsed:       {http.StatusConflict, "The token is used up"},
	client.CodeTokenExpired:    {http.StatusUnauthorized, "The token has expired"},
	client.CodeStaleTooOld:     {http.StatusServiceUnavailable, "The state here is too old"},
	client.CodeInternal:        {http.StatusInternalServerError, "Internal error"},
}

// problem is a refusal on its way to the caller. huma asks it for its status,
// headers and content type.
type problem struct {
	client.Problem
	retryAfter time.Duration // 429 and 503; at least a second in the header
	cause      error         // for the log, never for the caller
}

func (p *problem) Error() string { return p.Problem.Error() }

// Unwrap gives the cause.
func (p *problem) Unwrap() error { return p.cause }

// GetStatus is for huma.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is for huma.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders is for huma.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	p.setHeaders(h)
	return h
}

func (p *problem) setHeaders(h http.Header) {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		s := max(1, int64(math.Ceil(p.retryAfter.Seconds())))
		h.Set("Retry-After", strconv.FormatInt(s, 10))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="holdfast"`)
	}
}

func newProblem(code, format string, args ...any) *problem {
	c := codes[code]
	return &problem{Problem: client.Problem{
		Type:   client.ProblemPrefix + code,
		Title:  c.title,
		Status: c.status,
		Detail: fmt.Sprintf(format, args...),
	}}
}

// invalidAt is an invalid request with the place of its fault.
func invalidAt(location, format string, args ...any) *problem {
	p := newProblem(client.CodeInvalid, "see errors")
	p.Errors = []client.ProblemField{{Location: location, Message: fmt.Sprintf(format, args...)}}
	return p
}

func (p *problem) withStatus(status int) *problem {
	p.Status = status
	return p
}

// code is the type without its prefix.
func (p *problem) code() string { return p.Type[len(client.ProblemPrefix):] }

// asProblem turns any error into what the caller may see of it.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	var p *problem
	switch {
	case errors.Is(err, ErrUnknownOutcome):
		p = newProblem(client.CodeUnavailable, "the cluster did not say in time whether this took effect: send it again with the same Idempotency-Key, or look first")
	case errors.Is(err, ErrNoLeader):
		p = newProblem(client.CodeUnavailable, "the cluster has no leader right now, and nothing was changed: try again")
	case errors.Is(err, ErrStopping):
		p = newProblem(client.CodeUnavailable, "this node is going down: try another one")
	case errors.Is(err, ErrOverloaded):
		p = newProblem(client.CodeOverloaded, "the leader has too much to do, and nothing was changed: try again later")
	case errors.Is(err, ErrTooStale):
		p = newProblem(client.CodeStaleTooOld, "this node's state is older than max_age: try another node, a larger max_age, or a linearizable read")
	case errors.Is(err, ErrNotFound):
		p = newProblem(client.CodeNotFound, "%s", err)
	case errors.Is(err, ErrInvalid):
		p = newProblem(client.CodeInvalid, "%s", err)
	case errors.Is(err, ErrConflict):
		p = newProblem(client.CodeConflict, "%s", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p = newProblem(client.CodeUnavailable, "the cluster did not answer in time: try again")
	default:
		p = newProblem(client.CodeInternal, "the node failed to do this; its log says why")
	}
	p.cause = err
	return p
}

// fromResult turns a command's refusal into a problem, nil for none.
func fromResult(r fsm.Result) *problem {
	detail := func(def string) string {
		if r.Detail != "" {
			return r.Detail
		}
		return def
	}
	switch r.Code {
	case fsm.OK:
		return nil
	case fsm.CodeInvalid:
		return newProblem(client.CodeInvalid, "%s", detail("the cluster refused it as malformed"))
	case fsm.CodeNotFound:
		return newProblem(client.CodeNotFound, "%s", detail("there is no such thing"))
	case fsm.CodeConflict:
		return newProblem(client.CodeConflict, "%s", detail("the state no longer allows it"))
	case fsm.CodeQueueFull:
		return newProblem(client.CodeQueueFull, "%s: try again later", detail("the queue is full"))
	case fsm.CodeForbidden:
		return newProblem(client.CodeForbidden, "%s", detail("the node was removed, or was never admitted"))
	case fsm.CodeTokenBad:
		return newProblem(client.CodeUnauthenticated, "%s", detail("no such token"))
	case fsm.CodeTokenExpired:
		return newProblem(client.CodeTokenExpired, "%s", detail("the token has expired"))
	case fsm.CodeTokenUsed:
		return newProblem(client.CodeTokenUsed, "%s", detail("every use of the token is spent"))
	}
	p := newProblem(client.CodeInternal, "the node failed to do this; its log says why")
	p.cause = fmt.Errorf("unknown result code %d: %s", r.Code, r.Detail)
	return p
}

// fromHuma maps what huma itself refuses (parameters, empty bodies) to ours.
// It leaves out the values that huma would echo: they may be secrets.
func fromHuma(m *huma.ErrorModel) *problem {
	code := client.CodeInvalid
	switch m.Status {
	case http.StatusRequestEntityTooLarge:
		code = client.CodeTooLarge
	case http.StatusInternalServerError:
		// huma's only own cause is a body that broke off: the caller's doing.
		m.Status = http.StatusBadRequest
	}
	p := newProblem(code, "%s", m.Detail)
	p.Status = m.Status
	for _, e := range m.Errors {
		if e != nil {
			p.Errors = append(p.Errors, client.ProblemField{Location: e.Location, Message: e.Message})
		}
	}
	return p
}

// write sends the problem outside of huma.
func (p *problem) write(w http.ResponseWriter) {
	p.setHeaders(w.Header())
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	b, err := json.Marshal(&p.Problem)
	if err != nil {
		return // strings and numbers always encode
	}
	_, _ = w.Write(append(b, '\n')) // the caller may be gone
}
