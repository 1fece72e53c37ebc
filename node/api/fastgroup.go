package api

import (
	"context"
	"fmt"
	"time"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// fastRequest is one request on its way to a command.
type fastRequest struct {
	frames.Request
	size int // of the frame
	op   *fastOp
	subs []fsm.Submission
}

// decode reads a frame.
func (q *fastRequest) decode(frame []byte) error {
	q.size = len(frame)
	return decodeFrame(frame, &q.Request)
}

// run brings a group of requests under way. All of them have been claimed, and
// each is answered once. An error ends the session.
func (f *fastSession) run(ctx context.Context, group []fastRequest) error {
	s, now := f.s, f.s.cfg.Now()
	refuse := func(q *fastRequest, p *problem) { f.refuse(q, p, now) }
	if _, _, p := f.authenticate(); p != nil {
		for i := range group {
			refuse(&group[i], p)
		}
		return p
	}
	if err := s.cfg.Audit.Begin(ctx); err != nil {
		for i := range group {
			refuse(&group[i], noAudit(err))
		}
		return nil
	}
	fl := &fastFlush{f: f, started: now, left: len(group)}
	good := f.admit(group, now, fl)
	deadline := now.Add(s.limits.ProposeTimeout)
	for _, q := range good {
		cmd, err := f.command(q)
		if err != nil {
			fl.refuse(q, asProblem(err))
			continue
		}
		c := &fastCall{flush: fl, number: q.Number, size: q.size, op: q.op, key: q.Key, subs: q.subs}
		s.cfg.Backend.ProposeAsync(deadline, cmd, c.done)
	}
	return nil
}

// admit finds the requests that may be proposed, and refuses the others.
func (f *fastSession) admit(group []fastRequest, now time.Time, fl *fastFlush) []*fastRequest {
	good := make([]*fastRequest, 0, len(group))
	tasks := 0
	for i := range group {
		q := &group[i]
		if p := f.validate(q); p != nil {
			fl.refuse(q, p)
			continue
		}
		good = append(good, q)
		tasks += len(q.subs)
	}
	if ok, _ := f.s.rates.take(f.principal, tasks, now); ok {
		return good
	}
	paid := good[:0]
	for _, q := range good {
		if ok, retry := f.s.rates.take(f.principal, len(q.subs), now); ok {
			paid = append(paid, q)
		} else {
			fl.refuse(q, f.s.rateLimited(retry))
		}
	}
	return paid
}

// validate checks what HTTP's operations check, and gives the request its
// submissions.
func (f *fastSession) validate(q *fastRequest) *problem {
	q.op = f.s.fastOps[0]
	if len(q.Specs) != 1 {
		q.op = f.s.fastOps[1]
	}
	switch {
	case q.Method != frames.Submit:
		return newProblem(client.CodeInvalid, "the method %d is unknown to this node", q.Method)
	case len(q.Specs) == 0 || len(q.Specs) > maxBatch:
		return newProblem(client.CodeInvalid, "the request has %d specs, want 1 to %d", len(q.Specs), maxBatch)
	case len(q.Key) > frames.MaxKey:
		return newProblem(client.CodeInvalid, "the key has %d bytes, at most %d", len(q.Key), frames.MaxKey)
	}
	if p := f.check(q.op); p != nil {
		return p
	}
	q.subs = make([]fsm.Submission, len(q.Specs))
	for i, raw := range q.Specs {
		spec, err := client.DecodeSpec(raw)
		if err != nil {
			return newProblem(client.CodeInvalid, "specs[%d]: %s", i, err)
		}
		var p *problem
		if q.subs[i], p = submission(&spec, fmt.Sprintf("specs[%d].", i)); p != nil {
			return p
		}
	}
	return nil
}

func (f *fastSession) command(q *fastRequest) ([]byte, error) {
	id, err := f.s.commandID(f.principal, q.op.id, q.Key, 0)
	if err != nil {
		return nil, err
	}
	cmd, err := fsm.NewCommand(fsm.CmdSubmit, id, f.principal, fsm.Submit{Tasks: q.subs})
	if err == nil && len(cmd) > fsm.MaxCommandBytes {
		return nil, newProblem(client.CodeTooLarge, "the request takes %d bytes, at most %d fit: split it", len(cmd), fsm.MaxCommandBytes)
	}
	return cmd, err
}

// refuse answers without a command.
func (f *fastSession) refuse(q *fastRequest, p *problem, started time.Time) {
	op := q.op
	if op == nil {
		op = f.s.fastOps[0]
	}
	op.metrics.observe(p.Status, f.s.cfg.Now().Sub(started))
	f.logFailure(op, p)
	f.answer(&frames.Answer{Number: q.Number, Code: frames.CodeOf(p.code()), Detail: detailOf(p), RetryAfterMS: retryMillis(p)}, q.size)
}

func (f *fastSession) logFailure(op *fastOp, p *problem) {
	switch {
	case p.code() == client.CodeInternal:
		f.s.cfg.Logger.Error("a request failed", "operation", op.id, "source", f.source, "error", p.cause)
	case p.cause != nil && f.s.cfg.Logger.IsDebug():
		f.s.cfg.Logger.Debug("a request was refused", "operation", op.id, "source", f.source, "error", p.cause)
	}
}

// fastCall is a request whose command is under way.
type fastCall struct {
	flush  *fastFlush
	op     *fastOp
	number uint64
	size   int
	key    string
	subs   []fsm.Submission
}

// done is the Backend's callback.
func (c *fastCall) done(r fsm.Result, index uint64, err error) {
	f := c.flush.f
	var p *problem
	if err != nil {
		p = asProblem(fmt.Errorf("propose a submission: %w", err))
	} else if p = fromResult(r); p == nil {
		p = f.s.sameSubmission(c.key, r, c.subs)
	}
	if p != nil {
		q := fastRequest{op: c.op, size: c.size}
		q.Number = c.number
		c.flush.refuse(&q, p)
		return
	}
	c.op.metrics.observe(200, f.s.cfg.Now().Sub(c.flush.started))
	f.answer(&frames.Answer{Number: c.number, First: uint64(r.First), Count: r.Count, Index: index}, c.size)
	c.flush.ended(c.op, r.First, r.Count, "")
}

func appendAnswer(b []byte, a *frames.Answer) []byte {
	b, err := frames.Append(b, a)
	if err != nil {
		panic("api: an answer of bounded size cannot be encoded: " + err.Error())
	}
	return b
}
