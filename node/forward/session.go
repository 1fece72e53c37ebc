package forward

import (
	"bufio"
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
)

// loop follows the leader: one session for each, until Close.
func (f *Forwarder) loop() {
	for {
		f.mu.Lock()
		for !f.closed && len(f.queue) == 0 {
			f.cond.Wait()
		}
		gen, closed := f.gen, f.closed
		f.mu.Unlock()
		if closed {
			return
		}
		switch leader := f.cfg.Group.Leader(); {
		case leader.Self:
			f.drainLocal(gen)
		case leader.ID == "":
			f.pause(gen)
		default:
			if err := f.session(leader.ID, gen); err != nil {
				f.cfg.Logger.Debug("forwarding session ended", "leader", leader.ID, "error", err)
				f.pause(gen)
			}
		}
	}
}

// pause waits for a change of leader, but not for ever: Leader may already
// name the next one by the time that the change was counted.
func (f *Forwarder) pause(gen uint64) {
	over := false // guarded by mu; not a change of leader, which would end a session
	t := time.AfterFunc(retryPause, func() {
		f.mu.Lock()
		over = true
		f.mu.Unlock()
		f.cond.Broadcast()
	})
	defer t.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.closed && f.gen == gen && !over {
		f.cond.Wait()
	}
}

// drainLocal proposes what was queued before this node led.
func (f *Forwarder) drainLocal(gen uint64) {
	for {
		f.mu.Lock()
		if f.closed || f.gen != gen || len(f.queue) == 0 {
			f.mu.Unlock()
			return
		}
		calls := f.take()
		f.mu.Unlock()
		if len(calls) > 0 {
			f.proposeLocal(calls)
		}
	}
}

func (f *Forwarder) proposeLocal(calls []*call) {
	f.cfg.Group.ProposeAsync(commandsOf(calls), func(results []fsm.Result, index uint64, err error) {
		f.settle(calls, results, index, outcomeOf(err))
	})
}

// outcomeOf sorts consensus's errors. An unknown outcome is tried again, as
// the request IDs make that safe.
func outcomeOf(err error) outcome {
	var nl *consensus.NotLeaderError
	switch {
	case err == nil:
		return committed
	case errors.As(err, &nl):
		return notLeader
	case errors.Is(err, consensus.ErrOverloaded):
		return overloaded
	case errors.Is(err, consensus.ErrTooLarge):
		return tooLarge
	case errors.Is(err, consensus.ErrUnknownOutcome):
		return unknown
	default:
		return unavailable
	}
}

// settle ends calls or queues them again. A retry waits a moment: a leader
// that is losing office would otherwise be asked in a tight circle.
func (f *Forwarder) settle(calls []*call, results []fsm.Result, index uint64, o outcome) {
	switch {
	case o == committed && len(results) == len(calls):
		f.finish(calls, results, index, nil)
		return
	case o == overloaded:
		calls = f.refuse(calls, consensus.ErrOverloaded)
	case o == tooLarge && len(calls) == 1:
		calls = f.refuse(calls, consensus.ErrTooLarge)
	case o == notLeader || o == unavailable:
		f.markUnsent(calls)
	case o == unknown:
		f.doubt(calls)
	}
	if len(calls) > 0 {
		time.AfterFunc(retryPause, func() { f.again(calls) })
	}
}

// refuse answers calls with a definite error, and returns those that cannot
// have one: an earlier copy may have been applied, so that only a commit tells
// their outcome.
func (f *Forwarder) refuse(calls []*call, err error) (doubtful []*call) {
	f.mu.Lock()
	definite := calls[:0:0]
	for _, c := range calls {
		if c.doubt {
			doubtful = append(doubtful, c)
		} else {
			definite = append(definite, c)
		}
	}
	f.mu.Unlock()
	f.finish(definite, nil, 0, err)
	return doubtful
}

// markUnsent notes a definite refusal. An earlier try of the same call may
// have had an unknown outcome; that is remembered by doubt.
func (f *Forwarder) markUnsent(calls []*call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range calls {
		c.sent = c.doubt
	}
}

// session forwards over one stream until it breaks or the leader changes.
func (f *Forwarder) session(leader string, gen uint64) error {
	ctx, cancel := context.WithTimeout(f.ctx, openTimeout)
	conn, err := f.cfg.Open(ctx, leader)
	cancel()
	if err != nil {
		return err
	}
	s := &session{f: f, conn: conn, gen: gen, out: map[uint64][]*call{}}
	var readers sync.WaitGroup
	readers.Go(s.read)
	err = s.write()
	_ = conn.Close()
	readers.Wait()
	for _, calls := range s.out {
		f.doubt(calls)
		f.again(calls)
	}
	return err
}

// doubt marks calls whose earlier copy may still commit.
func (f *Forwarder) doubt(calls []*call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range calls {
		c.doubt = true
	}
}

// session is one stream to one leader. out, broken and the number are guarded
// by the forwarder's mu.
type session struct {
	f      *Forwarder
	conn   net.Conn
	gen    uint64
	number uint64
	out    map[uint64][]*call
	broken error
}

func (s *session) write() error {
	f := s.f
	var buf []byte
	for {
		f.mu.Lock()
		for !f.closed && f.gen == s.gen && s.broken == nil && (len(f.queue) == 0 || len(s.out) >= inFlight) {
			f.cond.Wait()
		}
		if f.closed || f.gen != s.gen || s.broken != nil {
			err := s.broken
			f.mu.Unlock()
			return err
		}
		f.gather()
		calls := f.take()
		if len(calls) == 0 {
			f.mu.Unlock()
			continue
		}
		s.number++
		s.out[s.number] = calls
		f.mu.Unlock()

		buf = appendRequest(buf[:0], s.number, commandsOf(calls))
		// A leader that hangs must not hold the writer: the change of leader
		// closes nothing here.
		_ = s.conn.SetWriteDeadline(f.cfg.Now().Add(openTimeout))
		if _, err := s.conn.Write(buf); err != nil {
			return err
		}
	}
}

// gather lets those who are about to queue calls do so: calls come in groups,
// the first of which wakes the writer, and a frame costs both ends the same
// whatever it holds. It yields until a turn brings nothing new, and waits for
// no clock; a call that is alone waits for nobody. The caller holds mu, which
// is released meanwhile.
func (f *Forwarder) gather() {
	for n := 0; len(f.live) > 1 && len(f.queue) != n && f.bytes < frameBytes; {
		n = len(f.queue)
		f.mu.Unlock()
		runtime.Gosched()
		f.mu.Lock()
	}
}

func (s *session) read() {
	r := bufio.NewReaderSize(s.conn, 64<<10)
	for {
		a, err := readAnswer(r)
		s.f.mu.Lock()
		if err != nil {
			s.broken = err
			s.f.mu.Unlock()
			s.f.cond.Broadcast()
			return
		}
		calls := s.out[a.number]
		delete(s.out, a.number)
		s.f.mu.Unlock()
		s.f.cond.Broadcast()
		if len(calls) > 0 {
			s.f.settle(calls, a.results, a.index, a.outcome)
		}
	}
}

// sweep answers the calls whose deadline has passed.
func (f *Forwarder) sweep() {
	for {
		f.mu.Lock()
		for !f.closed && len(f.live) == 0 {
			f.cond.Wait()
		}
		if f.closed {
			f.mu.Unlock()
			return
		}
		now := f.cfg.Now()
		var unproposed, doubtful []*call
		for c := range f.live {
			switch {
			case !now.After(c.deadline):
				continue
			case c.sent || c.doubt: // read under mu: a late answer may still write it
				doubtful = append(doubtful, c)
			default:
				unproposed = append(unproposed, c)
			}
			c.over = true
			delete(f.live, c)
		}
		f.mu.Unlock()
		for _, c := range doubtful {
			c.done(fsm.Result{}, 0, consensus.ErrUnknownOutcome)
		}
		for _, c := range unproposed {
			c.done(fsm.Result{}, 0, ErrNoLeader)
		}
		select {
		case <-time.After(sweepEvery):
		case <-f.ctx.Done():
		}
	}
}
