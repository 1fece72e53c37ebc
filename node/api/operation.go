package api

import (
	"context"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/client"
	"holdfast/node/api/internal/strictjson"
)

const jsonType = "application/json"

// operation is one route: what is checked before it runs, and its description.
type operation struct {
	id          string // also the policy's action
	method      string
	path        string
	tag         string
	summary     string
	description string
	status      int      // of success; default 200
	mutation    bool     // audited; nothing happens if it cannot be
	long        bool     // waits for something other than a commit
	consumes    []string // media types of the body; none = no body is read
	maxBody     int64    // bytes; only with consumes
	produces    string   // media type of an answer that h writes itself, returning nil
	body        any      // a value of the body's type, for the description
	repeated    []string // query parameters that may come more than once
	problems    []string // codes besides those of every operation
}

// written is the output of operations that write their own answer.
type written struct{}

// opState is what the server keeps of an operation.
type opState struct {
	operation
	metrics *opMetrics
}

// register adds an operation. Inside h, errors may be anything: asProblem
// decides what the caller sees.
func register[I, O any](s *server, op operation, h func(context.Context, *call, *I) (*O, error)) {
	st := &opState{operation: op, metrics: s.metrics.of(op.id)}
	if public, _ := s.cfg.Policy.Decide(op.id, 0); public && op.method == http.MethodGet {
		s.public[op.path] = true
	}
	hop := s.describeOperation(op)
	hop.Middlewares = huma.Middlewares{s.gate(st)}
	hop.SkipValidateBody = true // strictjson and the operations do it
	hop.BodyReadTimeout = s.limits.BodyTimeout
	hop.MaxBodyBytes = op.maxBody + 1 // huma refuses from its bound on, not beyond it
	huma.Register(s.huma, hop, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		if len(op.consumes) > 0 && !op.long {
			// The body is here; its deadline would cancel the rest.
			_ = c.w.rc.SetReadDeadline(time.Time{})
		}
		var out *O
		do := func() error {
			var err error
			out, err = h(ctx, c, in)
			return err
		}
		var err error
		if op.mutation {
			err = s.audited(ctx, c, do)
		} else {
			err = do()
		}
		if err != nil {
			p := asProblem(err)
			s.logFailure(c, p)
			if c.w.status != 0 {
				panic(http.ErrAbortHandler) // half an answer is out: only a cut says so
			}
			return nil, p
		}
		return out, nil
	})
	s.describeBody(op)
}

// noAudit refuses what could not be recorded.
func noAudit(err error) *problem {
	p := newProblem(client.CodeUnavailable, "this node cannot write its audit log, and changes nothing without: try another node, and tell its operator")
	p.cause = err
	return p
}

// audited runs a mutation between the two halves of its record.
func (s *server) audited(ctx context.Context, c *call, do func() error) error {
	if err := s.cfg.Audit.Begin(ctx); err != nil {
		return noAudit(err)
	}
	outcome := client.CodeInternal // what a panic leaves behind
	defer func() { s.cfg.Audit.End(c.principal, c.source, c.op.id, c.target, outcome) }()
	err := do()
	outcome = "ok"
	if err != nil {
		outcome = asProblem(err).code()
	}
	return err
}

func (s *server) logFailure(c *call, p *problem) {
	switch {
	case p.code() == client.CodeInternal:
		s.cfg.Logger.Error("a request failed", "request", c.id, "operation", c.op.id, "error", p.cause)
	case p.cause != nil && s.cfg.Logger.IsDebug():
		s.cfg.Logger.Debug("a request was refused", "request", c.id, "operation", c.op.id, "error", p.cause)
	}
}

// gate checks what is known of an operation before its parameters are read.
func (s *server) gate(op *opState) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		c := callOf(hc.Context())
		c.op = op
		if p := s.check(c); p != nil {
			c.refuse(p)
			return
		}
		next(hc)
	}
}

func (s *server) check(c *call) *problem {
	allowed, ownOnly := s.cfg.Policy.Decide(c.op.id, c.role)
	if !allowed {
		s.cfg.Audit.Note(c.principal, c.source, c.op.id, c.r.URL.Path, client.CodeForbidden)
		return newProblem(client.CodeForbidden, "the role of %s does not allow %s: ask an admin for a token with a higher role", c.principal, c.op.id)
	}
	c.ownOnly = ownOnly
	if c.op.long {
		if !s.long.enter() {
			return newProblem(client.CodeOverloaded, "this node has %d long requests in hand: try again, or try another node", s.limits.LongInFlight)
		}
		s.short.leave()
		c.long = true
	}
	if c.r.URL.RawQuery != "" {
		if p := checkQuery(c.r.URL.RawQuery, c.op.repeated); p != nil {
			return p
		}
	}
	if len(c.op.consumes) == 0 {
		return nil
	}
	if ct := c.r.Header.Get("Content-Type"); !accepts(c.op.consumes, ct) {
		return newProblem(client.CodeInvalid, "the body's Content-Type is %q: send %s", ct, strings.Join(c.op.consumes, " or ")).withStatus(http.StatusUnsupportedMediaType)
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return newProblem(client.CodeInvalid, "the body's Content-Encoding is %q: send it plain", enc).withStatus(http.StatusUnsupportedMediaType)
	}
	if c.r.ContentLength > c.op.maxBody {
		return newProblem(client.CodeTooLarge, "the body has %d bytes, at most %d are accepted", c.r.ContentLength, c.op.maxBody)
	}
	return nil
}

func accepts(types []string, ct string) bool {
	if slices.Contains(types, ct) {
		return true
	}
	media, params, err := mime.ParseMediaType(ct)
	if err != nil || !slices.Contains(types, media) {
		return false
	}
	charset, ok := params["charset"]
	return !ok || strings.EqualFold(charset, "utf-8")
}

// checkQuery refuses what could be read in two ways: bad escapes, and a
// parameter that comes twice though it has one value.
func checkQuery(raw string, repeated []string) *problem {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return newProblem(client.CodeInvalid, "the query cannot be read: %s", err).withStatus(http.StatusBadRequest)
	}
	for k, v := range q {
		if len(v) > 1 && !slices.Contains(repeated, k) {
			return invalidAt("query."+k, "comes %d times, and has one value", len(v)).withStatus(http.StatusBadRequest)
		}
	}
	return nil
}

// decode strictly reads a JSON body into v.
func decode(body []byte, v any) *problem {
	err := strictjson.Decode(body, v)
	if err == nil {
		return nil
	}
	location, message := "body", err.Error()
	if e, ok := err.(*strictjson.Error); ok {
		message = e.Message
		if e.Path != "" {
			location = "body." + e.Path
		}
	}
	return invalidAt(location, "%s", message).withStatus(http.StatusBadRequest)
}
