package api

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// fastRequest is one request on its way to a command. Its texts are parts of
// the frame's one copy.
type fastRequest struct {
	number uint64
	method frames.Method
	specs  []string // encoded
	key    string
	size   int // of the frame
	op     *fastOp
	cmd    []byte
}

// grow adds a request with what a used one has in room.
func grow(group []fastRequest) []fastRequest {
	if len(group) < cap(group) {
		return group[:len(group)+1]
	}
	return append(group, fastRequest{})
}

// decode reads a frame.
func (q *fastRequest) decode(frame []byte) error {
	*q = fastRequest{specs: q.specs[:0], size: len(frame)}
	c := scan{s: string(frame[fastHeader:])}
	if c.request(q) {
		return nil
	}
	var r frames.Request
	if err := decodeFrame(frame, &r); err != nil {
		return err
	}
	q.number, q.method, q.key, q.specs = r.Number, r.Method, r.Key, q.specs[:0]
	for _, raw := range r.Specs {
		q.specs = append(q.specs, string(raw))
	}
	return nil
}

// run brings a group of requests under way. All of them have been claimed, and
// each is answered once. An error ends the session.
func (f *fastSession) run(ctx context.Context, group []fastRequest) error {
	s, now := f.s, f.s.cfg.Now()
	_, _, p := f.authenticate()
	ends := p // a session whose token is no longer good
	if p == nil {
		if err := s.cfg.Audit.Begin(ctx); err != nil {
			p = noAudit(err)
		}
	}
	if p != nil {
		for i := range group {
			f.refuse(s.fastOps[0], group[i].number, group[i].size, p, 0)
		}
		if ends != nil {
			return ends
		}
		return nil
	}
	fl := &fastFlush{f: f, started: now, left: len(group)}
	whole := false
	defer func() {
		if !whole { // a panic: not every request will have an outcome, so that the flush does not end by itself
			s.cfg.Audit.End(f.principal, f.source, s.fastOps[0].id, requests(len(group)), client.CodeInternal)
		}
	}()
	fl.newest = s.newest()
	good := f.admit(group, fl)
	deadline := now.Add(s.limits.ProposeTimeout)
	calls := make([]fastCall, len(good))
	for i, q := range good {
		c := &calls[i]
		*c = fastCall{flush: fl, op: q.op, number: q.number, size: q.size, cmd: q.cmd, keyed: q.key != ""}
		s.cfg.Backend.ProposeAsync(deadline, q.cmd, c.done)
	}
	whole = true
	return nil
}

// newest is the last task that this node has.
func (s *server) newest() fsm.TaskID {
	if list := s.cfg.Backend.State().List(fsm.Filter{Limit: 1, Newest: true}); len(list) > 0 {
		return list[0].ID
	}
	return 0
}

// admit finds the requests that may be proposed, with their commands, and
// refuses the others.
func (f *fastSession) admit(group []fastRequest, fl *fastFlush) []*fastRequest {
	good := make([]*fastRequest, 0, len(group))
	tasks := 0
	for i := range group {
		q := &group[i]
		if p := f.prepare(q); p != nil {
			fl.refuse(q.op, q.number, q.size, p)
			continue
		}
		good = append(good, q)
		tasks += len(q.specs)
	}
	if ok, _ := f.s.rates.take(f.principal, tasks, fl.started); ok {
		return good
	}
	paid := good[:0]
	for _, q := range good {
		if ok, retry := f.s.rates.take(f.principal, len(q.specs), fl.started); ok {
			paid = append(paid, q)
		} else {
			fl.refuse(q.op, q.number, q.size, f.s.rateLimited(retry))
		}
	}
	return paid
}

// prepare checks what HTTP's operations check, and makes the command.
func (f *fastSession) prepare(q *fastRequest) *problem {
	q.op = f.s.fastOps[0]
	if len(q.specs) != 1 {
		q.op = f.s.fastOps[1]
	}
	switch {
	case q.method != frames.Submit:
		return newProblem(client.CodeInvalid, "the method %d is unknown to this node", q.method)
	case len(q.specs) == 0 || len(q.specs) > maxBatch:
		return newProblem(client.CodeInvalid, "the request has %d specs, want 1 to %d", len(q.specs), maxBatch)
	case len(q.key) > frames.MaxKey:
		return newProblem(client.CodeInvalid, "the key has %d bytes, at most %d", len(q.key), frames.MaxKey)
	}
	if p := f.check(q.op); p != nil {
		return p
	}
	id, err := f.s.commandID(f.principal, q.op.id, q.key, 0)
	if err != nil {
		return asProblem(err)
	}
	const headRoom, specRoom = 96, 96 // of usual principals, and of a shape, twice
	b := make([]byte, 0, headRoom+q.size+specRoom*len(q.specs))
	b = appendSubmit(b, f.s.submit, &id, f.principal, len(q.specs))
	for i, raw := range q.specs {
		var p *problem
		if b, p = appendSubmission(b, raw); p != nil {
			p.Detail = fmt.Sprintf("specs[%d]: %s", i, detailOf(p))
			p.Errors = nil
			return p
		}
	}
	if len(b) > fsm.MaxCommandBytes {
		return newProblem(client.CodeTooLarge, "the request takes %d bytes, at most %d fit: split it", len(b), fsm.MaxCommandBytes)
	}
	q.cmd = b
	return nil
}

// appendSubmission checks an encoded spec and appends its task.
func appendSubmission(b []byte, raw string) ([]byte, *problem) {
	var t client.TaskSpec
	if !scanSpec(raw, &t) {
		var err error
		if t, err = client.DecodeSpec([]byte(raw)); err != nil {
			return b, newProblem(client.CodeInvalid, "%s", err)
		}
	}
	var f faults
	spec := checkedSpec(&t, &f)
	if p := f.problem(); p != nil {
		return b, p
	}
	b, size := appendTask(b, &spec)
	if size > fsm.MaxSpecBytes {
		return b, specTooLarge(size)
	}
	return b, nil
}

// refuse answers a request that did not take effect.
func (f *fastSession) refuse(op *fastOp, number uint64, size int, p *problem, took time.Duration) {
	op.metrics.observe(p.Status, took)
	switch {
	case p.code() == client.CodeInternal:
		f.s.cfg.Logger.Error("a request failed", "operation", op.id, "source", f.source, "error", p.cause)
	case p.cause != nil && f.s.cfg.Logger.IsDebug():
		f.s.cfg.Logger.Debug("a request was refused", "operation", op.id, "source", f.source, "error", p.cause)
	}
	f.answer(&frames.Answer{Number: number, Code: frames.CodeOf(p.code()), Detail: detailOf(p), RetryAfterMS: retryMillis(p)}, size)
}

// fastCall is a request whose command is under way.
type fastCall struct {
	flush  *fastFlush
	op     *fastOp
	number uint64
	size   int
	cmd    []byte
	keyed  bool
}

// done is the Backend's callback.
func (c *fastCall) done(r fsm.Result, index uint64, err error) {
	l := c.flush
	var p *problem
	if err != nil {
		p = asProblem(fmt.Errorf("propose a submission: %w", err))
	} else if p = fromResult(r); p == nil && c.keyed && r.First <= l.newest {
		p = c.again(r)
	}
	if p != nil {
		l.refuse(c.op, c.number, c.size, p)
		return
	}
	c.op.metrics.observe(200, l.f.s.cfg.Now().Sub(l.started))
	l.f.answer(&frames.Answer{Number: c.number, First: uint64(r.First), Count: r.Count, Index: index}, c.size)
	l.ended(c.op, r.First, r.Count, "")
}

// again compares the tasks that a key made before with those it comes with
// now. Tasks that this node did not have when the request came are not looked
// up: under a load of new tasks that would be a wait for the state's lock for
// each.
func (c *fastCall) again(r fsm.Result) *problem {
	var cmd fsm.Command
	var body fsm.Submit
	if err := fsm.Unmarshal(c.cmd, &cmd); err != nil {
		return asProblem(fmt.Errorf("read a command of our own: %w", err))
	}
	if err := fsm.Unmarshal(cmd.Body, &body); err != nil {
		return asProblem(fmt.Errorf("read a command of our own: %w", err))
	}
	return c.flush.f.s.sameTasks(r, body.Tasks)
}

// appendAnswer appends an answer's frame, as frames.Append would.
func appendAnswer(b []byte, a *frames.Answer) []byte {
	at := len(b)
	r := newRecord(append(b, 0, 0, 0, 0))
	r.key(1)
	r.b = appendHead(r.b, cborUint, a.Number)
	r.uint(2, uint64(a.Code))
	r.uint(3, a.First)
	r.uint(4, uint64(a.Count))
	r.uint(5, a.Index)
	r.text(6, a.Detail)
	r.uint(7, uint64(a.RetryAfterMS))
	binary.BigEndian.PutUint32(r.b[at:], uint32(len(r.b)-at-fastHeader))
	return r.b
}
