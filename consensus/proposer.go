package consensus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// proposer is group commit: many commands, one raft entry.
//
// The naive design, one entry per command, collapses in the library's leader
// loop at a few thousand clients (p99 of seconds). A batching window fixes that
// and makes a lone client pay for it. Here there is no window and no timer: one
// entry is in flight, and everything that arrives meanwhile is the next one.
// The round in flight is the window. More entries in flight were measured to
// be noise on fast disks and slower on slow ones.
//
// Two parties: callers of propose, which only take mu; and run, which owns the
// entry in flight and runs the callbacks before it takes the next one. To send
// the next entry first, and to answer beside it, looks better and is worse: the
// clients then fall into two groups that wait for each other's entries, and on
// fast stores the rate at 256 clients is a fifth of this.
type proposer struct {
	limits  ProposerLimits
	encode  func(int64, [][]byte) []byte
	apply   func(entry []byte, term uint64) raft.ApplyFuture
	now     func() time.Time
	elapsed func() time.Time // a clock that nobody sets; nil is now
	smNow   func() int64
	leader  func() *NotLeaderError
	onStuck func()        // raft refuses every entry, see transferStuckAfter
	stuck   time.Duration // after which it is called
	metrics *Metrics

	wake chan struct{} // capacity 1

	mu       sync.Mutex
	gate     gate   // guarded by mu
	term     uint64 // of the office that is or was open last, guarded by mu
	queue    []call // of that office, guarded by mu
	late     []call // of offices before it, to be refused, guarded by mu
	bytes    int    // of queue and late, guarded by mu
	commands int    // of queue and late, guarded by mu

	stamps stamps
}

// gate says what becomes of proposals.
type gate uint8

const (
	gateClosed  gate = iota // not the leader: refuse
	gateOpen                // elected: propose
	gateStopped             // for ever: refuse
)

// call is one ProposeAsync: its commands share one entry and one callback.
type call struct {
	cmds  [][]byte
	bytes int
	done  func([]fsm.Result, uint64, error)
}

type delivery struct {
	results []fsm.Result
	index   uint64
	err     error
}

// commandOverhead is what one command costs in an entry and in the queue
// besides its bytes: framing, and the slice headers.
const commandOverhead = 8

func newProposer() *proposer {
	return &proposer{
		wake: make(chan struct{}, 1),
	}
}

// propose queues cmds as one unit, in the office of a term, 0 for whichever is
// open. A refusal runs done at once, on the caller's goroutine; otherwise it
// runs on run's.
func (p *proposer) propose(term uint64, cmds [][]byte, done func([]fsm.Result, uint64, error)) {
	size := 0
	for _, c := range cmds {
		size += len(c) + commandOverhead
	}
	if len(cmds) == 0 || size > p.limits.EntryBytes {
		p.metrics.refusals.WithLabelValues("too_large").Inc()
		done(nil, 0, fmt.Errorf("%w (%d commands, %d bytes; want 1 or more and at most %d bytes)", ErrTooLarge, len(cmds), size, p.limits.EntryBytes))
		return
	}
	p.mu.Lock()
	var err error
	switch {
	case p.gate == gateStopped:
		err = ErrStopped
	case p.gate == gateClosed, term != 0 && term != p.term:
		err = p.leader()
	case p.bytes+size > p.limits.QueueBytes || p.commands+len(cmds) > p.limits.QueueCommands:
		err = ErrOverloaded
	}
	if err != nil {
		p.mu.Unlock()
		p.refused(err, 1)
		done(nil, 0, err)
		return
	}
	first := len(p.queue) == 0
	p.queue = append(p.queue, call{cmds, size, done})
	p.bytes += size
	p.commands += len(cmds)
	p.mu.Unlock()
	p.metrics.proposals.Add(float64(len(cmds)))
	if first {
		p.kick()
	}
}

func (p *proposer) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// open begins an office. What an earlier office left in the queue is refused
// by run: it was decided there, and must not be appended here.
func (p *proposer) open(term uint64) {
	p.mu.Lock()
	if p.gate != gateStopped {
		p.late = append(p.late, p.queue...)
		clear(p.queue)
		p.queue = p.queue[:0]
		p.gate, p.term = gateOpen, term
	}
	p.mu.Unlock()
	p.kick()
}

// shut ends the office (gateClosed) or all of them (gateStopped). What is
// queued was never appended and is refused by run.
func (p *proposer) shut(g gate) {
	p.mu.Lock()
	if p.gate != gateStopped {
		p.gate = g
	}
	p.mu.Unlock()
	p.kick()
}

// run owns the entry in flight until the gate is stopped.
func (p *proposer) run() {
	var cmds [][]byte // reused, as is calls
	var calls []call
	for range p.wake {
		for {
			var g gate
			var term uint64
			calls, g, term = p.take(calls)
			if len(calls) == 0 {
				if g == gateStopped {
					return
				}
				break
			}
			switch g {
			case gateStopped:
				p.deliver(calls, delivery{err: ErrStopped})
			case gateClosed:
				p.deliver(calls, delivery{err: p.leader()})
			default:
				cmds = cmds[:0]
				for _, c := range calls {
					cmds = append(cmds, c.cmds...)
				}
				p.deliver(calls, p.commit(term, cmds))
				clear(cmds)
				runtime.Gosched() // let those who were answered join the next entry
			}
		}
	}
}

// take removes the next entry's calls from the queue, with the term of their
// office, or, when the gate is closed, all of them to be refused. buf is the
// last result, to be used again.
func (p *proposer) take(buf []call) ([]call, gate, uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.late) > 0 {
		for _, c := range p.late {
			p.bytes -= c.bytes
			p.commands -= len(c.cmds)
		}
		buf, p.late = p.late, nil
		if p.gate == gateStopped {
			return buf, gateStopped, 0
		}
		return buf, gateClosed, 0
	}
	n, size := 0, 0
	for n < len(p.queue) && (p.gate != gateOpen || size+p.queue[n].bytes <= p.limits.EntryBytes) {
		size += p.queue[n].bytes
		p.commands -= len(p.queue[n].cmds)
		n++
	}
	if n == len(p.queue) { // the common case: no copy
		buf, p.queue = p.queue, buf[:0]
	} else {
		buf = append(buf[:0], p.queue[:n]...)
		rest := copy(p.queue, p.queue[n:])
		clear(p.queue[rest:])
		p.queue = p.queue[:rest]
	}
	p.bytes -= size
	p.metrics.queueBytes.Set(float64(p.bytes))
	return buf, p.gate, p.term
}

// transferRetry is the pause before an entry that raft refused because of a
// leadership transfer is offered again. Nothing was appended, and a failed
// transfer ends within two election timeouts, so waiting beats refusing.
const transferRetry = 2 * time.Millisecond

// commit appends one entry in the office of a term and waits for its results.
func (p *proposer) commit(term uint64, cmds [][]byte) delivery {
	start := p.now()
	for {
		entry := p.encode(p.stamp(), cmds)
		f := p.apply(entry, term)
		err := f.Error()
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			p.mu.Lock()
			open := p.gate == gateOpen && p.term == term
			p.mu.Unlock()
			if !open {
				return delivery{err: p.leader()}
			}
			if p.now().Sub(start) > p.stuck {
				p.onStuck()
				return delivery{err: ErrStopped}
			}
			time.Sleep(transferRetry)
			continue
		}
		p.metrics.entries.Inc()
		p.metrics.batchCommands.Observe(float64(len(cmds)))
		p.metrics.commitSeconds.Observe(p.now().Sub(start).Seconds())
		if err != nil {
			return delivery{err: p.classify(err)}
		}
		o, _ := f.Response().(*outcome)
		switch {
		case o == nil:
			return delivery{err: fmt.Errorf("%w: no response from the state machine", ErrUnknownOutcome)}
		case errors.Is(o.err, errOtherOffice):
			return delivery{err: p.leader()}
		case o.err != nil:
			return delivery{err: fmt.Errorf("%w: %w", ErrUnknownOutcome, o.err)}
		case len(o.results) != len(cmds):
			return delivery{err: fmt.Errorf("%w: %d results for %d commands", ErrUnknownOutcome, len(o.results), len(cmds))}
		}
		return delivery{results: o.results, index: f.Index()}
	}
}

// classify tells a definite refusal from an unknown outcome. ErrNotLeader comes
// only from loops that append nothing. Everything else may have reached a disk
// somewhere: ErrLeadershipLost above all.
func (p *proposer) classify(err error) error {
	if errors.Is(err, raft.ErrNotLeader) {
		return p.leader()
	}
	return fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
}

func (p *proposer) refused(err error, n int) {
	reason := "unknown_outcome"
	var nl *NotLeaderError
	switch {
	case errors.As(err, &nl):
		reason = "not_leader"
	case errors.Is(err, ErrOverloaded):
		reason = "overloaded"
	case errors.Is(err, ErrStopped):
		reason = "stopped"
	}
	p.metrics.refusals.WithLabelValues(reason).Add(float64(n))
}

// deliver deals the results out to the calls of an entry.
func (p *proposer) deliver(calls []call, d delivery) {
	if d.err != nil {
		p.refused(d.err, len(calls))
	}
	rest := d.results
	for _, c := range calls {
		if d.err != nil {
			c.done(nil, 0, d.err)
			continue
		}
		n := len(c.cmds)
		c.done(rest[:n:n], d.index, nil)
		rest = rest[n:]
	}
	clear(calls)
}

// proposeOne is propose for one command and a waiting caller. A caller that
// gives up leaves a buffered channel to the garbage collector.
func (p *proposer) proposeOne(ctx context.Context, cmd []byte) (fsm.Result, uint64, error) {
	type answer struct {
		result fsm.Result
		index  uint64
		err    error
	}
	ch := make(chan answer, 1)
	p.propose(0, [][]byte{cmd}, func(r []fsm.Result, index uint64, err error) {
		a := answer{index: index, err: err}
		if err == nil {
			a.result = r[0]
		}
		ch <- a
	})
	select {
	case a := <-ch:
		return a.result, a.index, a.err
	case <-ctx.Done():
		return fsm.Result{}, 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}
