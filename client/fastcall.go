package client

import (
	"fmt"
	"sync"
	"time"

	"holdfast/client/frames"
)

// fastCall is one request's way to its caller. A context and a timer of its
// own for each cost more than all that is done with them, so that a session
// keeps its calls' deadlines, and calls are used again.
type fastCall struct {
	deadline time.Time
	frame    []byte // of the request, to be used again
	done     chan struct{}
	answer   frames.Answer // these are set before done gets its one token
	err      error
}

// keptFrame bounds what a call that waits for its next use holds.
const keptFrame = 4 << 10

var fastCalls = sync.Pool{New: func() any { return &fastCall{done: make(chan struct{}, 1)} }}

// put gives back a call whose outcome its caller has taken: nobody else knows
// it any more.
func (c *fastCall) put() {
	if cap(c.frame) > keptFrame {
		c.frame = nil
	}
	c.answer, c.err = frames.Answer{}, nil
	fastCalls.Put(c)
}

// add registers a call and queues its frame. It fails on a session that is
// over.
func (s *fastSession) add(number uint64, c *fastCall) error {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return s.ended()
	}
	defer s.mu.Unlock()
	s.pending[number] = c
	s.out = append(s.out, c.frame...)
	if s.lateAt.IsZero() || c.deadline.Before(s.lateAt) {
		s.arm(c.deadline)
	}
	return nil
}

// arm has tellLate called at a time. The caller holds mu.
func (s *fastSession) arm(at time.Time) {
	s.lateAt = at
	if d := time.Until(at); s.late == nil {
		s.late = time.AfterFunc(d, s.tellLate)
	} else {
		s.late.Reset(d)
	}
}

// tellLate ends the calls whose deadline has passed. Their numbers stay, as
// those of callers that gave up: the node still has their requests. Calls have
// the same patience, so that it runs about once in that time, whatever their
// number.
func (s *fastSession) tellLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, next := time.Now(), time.Time{}
	for number, c := range s.pending {
		switch {
		case c == nil:
		case !c.deadline.After(now):
			s.pending[number] = nil
			c.fail(&lateError{s.patience})
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	if s.lateAt = next; !next.IsZero() && !s.over {
		s.arm(next)
	}
}

// take finds the call that an answer is for, nil if its caller was told that
// it is late.
func (s *fastSession) take(number uint64) (c *fastCall, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok = s.pending[number]
	delete(s.pending, number)
	return c, ok
}

// abandon ends what waits on a session that is over.
func (s *fastSession) abandon() {
	err := s.ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for number, c := range s.pending {
		delete(s.pending, number)
		if c != nil {
			c.fail(err)
		}
	}
	if s.late != nil {
		s.late.Stop()
	}
}

// fail tells a call that was taken from pending. It does not block: there is
// one outcome for each.
func (c *fastCall) fail(err error) {
	c.err = err
	c.done <- struct{}{}
}

// lateError is a node's silence.
type lateError struct{ patience time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("no answer within %v", e.patience) }
