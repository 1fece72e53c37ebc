package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"holdfast/client"
	"holdfast/fsm"
)

const (
	ndjson = "application/x-ndjson"
	// groupLines and groupBytes bound what is proposed at a time. The group
	// commit behind the API fills entries of 512 KiB; more would only make
	// the first line of a group wait for the last.
	groupLines = 256
	groupBytes = 512 << 10
)

func (s *server) registerStream() {
	register(s, operation{
		id: "submit-stream", method: http.MethodPost, path: "/v1/tasks/stream", tag: "tasks", long: true,
		summary: "Submit tasks as they come",
		description: "Each line of the body is a task, each line of the answer tells what became of one, as soon as it is known and in any order. " +
			"A bad line does not end the stream. An answer for line 0 is about the stream itself, and its last. " +
			"With an Idempotency-Key every line is named by the key and its number, so that a broken stream may be resumed from the first line without an answer; the header Holdfast-First-Line gives that line's number.",
		consumes: []string{ndjson, "application/ndjson", "application/jsonl"}, maxBody: 1 << 62, body: client.TaskSpec{},
		produces: ndjson,
		problems: []string{client.CodeQueueFull, client.CodeUnavailable, client.CodeConflict},
	}, s.submitStream)
}

type streamInput struct {
	Keyed
	FirstLine uint64 `header:"Holdfast-First-Line" minimum:"1" maximum:"1000000000000" default:"1" doc:"Number of the first line of this body, in a stream that is resumed"`
}

// stream is one submission stream. The naive design proposes every line by
// itself and waits: a stream is then as slow as one commit per line. One that
// waits a while to fill a group adds that wait to every line of a slow stream.
// Here the reader puts lines into a queue, and the handler's goroutine takes
// whatever has come while the last group was in flight: groups grow with the
// load, and one line alone goes at once.
type stream struct {
	s     *server
	c     *call
	key   string
	lines chan line
	room  *semaphore.Weighted // bytes of lines without an answer
	read  chan struct{}       // closed when the reader has ended
	ended error               // why it did, nil for the end of the body; read it after read
	w     *bufio.Writer
	enc   *json.Encoder
}

// line is one line of the body, on its way to an answer.
type line struct {
	number  uint64
	size    int
	sub     fsm.Submission
	problem *problem
	id      fsm.TaskID
	index   uint64
}

func (s *server) submitStream(ctx context.Context, c *call, in *streamInput) (*written, error) {
	if _, err := s.requestID(c, in.Key, 0); err != nil {
		return nil, err
	}
	// HTTP/1 would otherwise read the whole body before the first answer.
	// HTTP/2 and 3 need no such switch, and refuse it.
	_ = c.w.rc.EnableFullDuplex()
	st := &stream{
		s: s, c: c, key: in.Key, read: make(chan struct{}),
		lines: make(chan line, max(1, s.limits.StreamLines-groupLines)),
		room:  semaphore.NewWeighted(int64(s.limits.StreamBytes)),
		w:     bufio.NewWriterSize(c.w, 32<<10),
	}
	st.enc = json.NewEncoder(st.w)
	st.enc.SetEscapeHTML(false)
	c.w.Header().Set("Content-Type", ndjson)
	if c.r.Header.Get("Expect") == "" {
		// A caller that waits for 100 Continue gets it when the body is first
		// read; a header before that would tell it not to send the body.
		c.w.begin(ndjson)
		if err := c.w.Flush(); err != nil {
			return nil, nil // gone already
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer st.stop(cancel)
	go st.readLines(ctx, in.FirstLine)
	return nil, st.answer(ctx)
}

// stop ends the reader, which may be inside Read. A deadline ends that
// everywhere but in HTTP/3, whose Close does.
func (st *stream) stop(cancel func()) {
	cancel()
	select {
	case <-st.read:
		return
	default:
	}
	if st.c.w.rc.SetReadDeadline(time.Unix(1, 0)) != nil {
		_ = st.c.r.Body.Close()
	}
	<-st.read
}

// answer commits and answers until there are no more lines. Its errors come
// after the answer began, so they cut the connection.
func (st *stream) answer(ctx context.Context) error {
	var group []line
	for {
		group = group[:0]
		select {
		case l, ok := <-st.lines:
			if !ok {
				return st.end()
			}
			group = append(group, l)
		case <-ctx.Done():
			// HTTP/1 ends the request's context when its body's deadline
			// passes: that is an end like another, and is said.
			st.stop(func() {})
			if errors.Is(st.ended, errSilent) {
				return st.end()
			}
			return ctx.Err()
		}
		group = st.gather(group)
		st.commit(ctx, group)
		if err := st.send(group); err != nil {
			return err
		}
	}
}

// gather takes what is there, without waiting.
func (st *stream) gather(group []line) []line {
	bytes := len(group[0].sub.Spec)
	for len(group) < groupLines && bytes < groupBytes {
		select {
		case l, ok := <-st.lines:
			if !ok {
				return group // answer's next receive says so again
			}
			bytes += len(l.sub.Spec)
			group = append(group, l)
		default:
			return group
		}
	}
	return group
}

func (st *stream) send(group []line) error {
	size := 0
	for i := range group {
		l := &group[i]
		size += l.size
		a := client.StreamAnswer{Line: int(l.number), Index: l.index}
		outcome := "ok"
		if l.problem != nil {
			a.Problem = &l.problem.Problem
			outcome = l.problem.code()
			st.s.logFailure(st.c, l.problem)
		} else {
			a.ID = l.id.String()
		}
		st.s.metrics.lines.WithLabelValues(outcome).Inc()
		if err := st.enc.Encode(&a); err != nil {
			return fmt.Errorf("write answers: %w", err)
		}
	}
	st.room.Release(int64(size))
	if err := st.w.Flush(); err != nil {
		return fmt.Errorf("write answers: %w", err)
	}
	return st.c.w.Flush()
}

// end says why the stream ended, if the caller did not end it.
func (st *stream) end() error {
	if st.ended != nil {
		p := newProblem(client.CodeInvalid, "the stream was ended: %s", st.ended)
		if errors.Is(st.ended, errGone) {
			return st.ended
		}
		if err := st.enc.Encode(&client.StreamAnswer{Problem: &p.Problem}); err != nil {
			return err
		}
	}
	st.c.w.begin(ndjson) // of a stream without a line
	return st.w.Flush()
}

// commit gives every line of the group its outcome.
func (st *stream) commit(ctx context.Context, group []line) {
	good := make([]*line, 0, len(group))
	for i := range group {
		if group[i].problem == nil {
			good = append(good, &group[i])
		}
	}
	if len(good) == 0 {
		return
	}
	all := func(err error) {
		for _, l := range good {
			l.problem = asProblem(err)
		}
	}
	if err := st.pay(ctx, len(good)); err != nil {
		all(err)
		return
	}
	err := st.s.audited(ctx, st.c, func() error {
		if st.key == "" {
			if err := st.submitTogether(ctx, good); err != nil {
				all(err)
				return err
			}
			return nil
		}
		return st.submitEach(good)
	})
	if err != nil && good[0].problem == nil && good[0].id == 0 {
		all(err) // refused by the audit before anything was tried
	}
}

// pay waits until the principal's rate allows n tasks: a stream is slowed
// down, not refused.
func (st *stream) pay(ctx context.Context, n int) error {
	for {
		ok, wait := st.s.rates.take(st.c.principal, n, st.s.cfg.Now())
		if ok {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// submitTogether proposes the group as one command: all lines or none.
func (st *stream) submitTogether(ctx context.Context, good []*line) error {
	subs := make([]fsm.Submission, len(good))
	for i, l := range good {
		subs[i] = l.sub
	}
	result, index, err := st.s.propose(ctx, st.c, fsm.CmdSubmit, "", fsm.Submit{Tasks: subs})
	if err != nil {
		return err
	}
	for i, l := range good {
		l.id, l.index = result.First+fsm.TaskID(i), index
	}
	st.c.target = taskRange(result.First, result.Count)
	return nil
}

// submitEach proposes each line as a command of its own, named by the key and
// the line's number, and waits for all: a resumed stream groups its lines in
// another way, so that only lines can be recognised. The error is for the
// audit; every line has its own outcome.
func (st *stream) submitEach(good []*line) error {
	var wg sync.WaitGroup
	deadline := st.s.cfg.Now().Add(st.s.limits.ProposeTimeout)
	for _, l := range good {
		cmd, err := st.command(l)
		if err != nil {
			l.problem = asProblem(err)
			continue
		}
		wg.Add(1)
		st.s.cfg.Backend.ProposeAsync(deadline, cmd, func(r fsm.Result, index uint64, err error) {
			defer wg.Done()
			if err != nil {
				l.problem = asProblem(fmt.Errorf("propose a line: %w", err))
			} else if l.problem = fromResult(r); l.problem == nil {
				l.id, l.index = r.First, index
				l.problem = st.s.sameSubmission(st.key, r, []fsm.Submission{l.sub})
			}
		})
	}
	wg.Wait()
	var target strings.Builder
	var failed error
	for i := 0; i < len(good); {
		if good[i].problem != nil {
			failed = good[i].problem
			i++
			continue
		}
		first := i
		for i++; i < len(good) && good[i].problem == nil && good[i].id == good[i-1].id+1; i++ {
		}
		if target.Len() > 0 {
			target.WriteByte(',')
		}
		target.WriteString(taskRange(good[first].id, uint32(i-first)))
	}
	st.c.target = target.String()
	return failed
}

func (st *stream) command(l *line) ([]byte, error) {
	id, err := st.s.requestID(st.c, st.key, l.number)
	if err != nil {
		return nil, err
	}
	return fsm.NewCommand(fsm.CmdSubmit, id, st.c.principal, fsm.Submit{Tasks: []fsm.Submission{l.sub}})
}
