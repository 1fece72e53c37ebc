package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/consensus"
	"holdfast/fsm"
)

const (
	// The queue is bounded like the leader's own (eight raft entries), so that
	// a follower sheds load no later than the leader would.
	maxQueueBytes = 4 << 20
	maxCalls      = 1 << 16
	// frameBytes is half a raft entry, so that a frame always fits into one; it
	// holds more only if a single command does.
	frameBytes = 256 << 10
	// frameCommands keeps a frame's results small enough for one answer.
	frameCommands = 4096
	// inFlight frames hide the round trip; the leader groups what arrives
	// while its previous entry is under way.
	inFlight = 4
	// retryPause spares a leader that cannot be reached, or that refuses
	// because it is just losing office.
	retryPause = 5 * time.Millisecond
	// openTimeout bounds one try to reach the leader.
	openTimeout = 500 * time.Millisecond
	// sweepEvery is how late an overdue call may be answered.
	sweepEvery = 20 * time.Millisecond
)

// ErrNoLeader says that the command was certainly not proposed: no leader
// could be reached before its deadline.
var ErrNoLeader = errors.New("no leader could be reached before the deadline; nothing was changed")

// ErrClosed says that the node is stopping. The outcome of a call that was
// under way is unknown.
var ErrClosed = errors.New("the node is stopping")

// Group is what forward needs of the raft group.
type Group interface {
	ProposeAsync(cmds [][]byte, done func(results []fsm.Result, index uint64, err error))
	Leader() consensus.LeaderInfo
}

// Config is what a Forwarder is made of.
type Config struct {
	Group Group
	// Open gives a stream to the node's leader end (Serve).
	Open   func(ctx context.Context, node string) (net.Conn, error)
	Logger hclog.Logger
	Now    func() time.Time
}

// Done gets a call's outcome, once. It must not block.
type Done func(result fsm.Result, index uint64, err error)

type call struct {
	cmd      []byte
	deadline time.Time
	done     Done
	sent     bool // this copy may have been proposed
	doubt    bool // an earlier copy may have been
	over     bool // answered already: drop it wherever it turns up
}

// Forwarder brings commands to the leader. Make it with New.
type Forwarder struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	cond   *sync.Cond
	queue  []*call
	bytes  int
	live   map[*call]struct{} // every call without an outcome
	gen    uint64             // changes of leader seen
	closed bool
}

// New starts a forwarder. Close it.
func New(cfg Config) *Forwarder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{cfg: cfg, ctx: ctx, cancel: cancel, live: map[*call]struct{}{}}
	f.cond = sync.NewCond(&f.mu)
	f.wg.Go(f.loop)
	f.wg.Go(f.sweep)
	return f
}

// Propose brings one encoded command to the leader and waits for its outcome,
// at most until ctx's deadline (30 s without one). Errors: ErrNoLeader and
// consensus.ErrOverloaded are definite, everything else leaves the outcome
// unknown.
func (f *Forwarder) Propose(ctx context.Context, cmd []byte) (fsm.Result, uint64, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = f.cfg.Now().Add(30 * time.Second)
	}
	type out struct {
		result fsm.Result
		index  uint64
		err    error
	}
	ch := make(chan out, 1)
	f.ProposeAsync(deadline, cmd, func(r fsm.Result, index uint64, err error) { ch <- out{r, index, err} })
	select {
	case o := <-ch:
		return o.result, o.index, o.err
	case <-ctx.Done():
		return fsm.Result{}, 0, fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, ctx.Err())
	}
}

// ProposeAsync is Propose with a callback. A full queue answers
// consensus.ErrOverloaded at once.
func (f *Forwarder) ProposeAsync(deadline time.Time, cmd []byte, done Done) {
	c := &call{cmd: cmd, deadline: deadline, done: done}
	f.mu.Lock()
	switch {
	case f.closed:
		f.mu.Unlock()
		done(fsm.Result{}, 0, ErrClosed)
		return
	case f.bytes+len(cmd) > maxQueueBytes && f.bytes > 0, len(f.live) >= maxCalls:
		f.mu.Unlock()
		done(fsm.Result{}, 0, consensus.ErrOverloaded)
		return
	}
	f.live[c] = struct{}{}
	first := len(f.live) == 1
	if len(f.queue) == 0 && f.cfg.Group.Leader().Self {
		// The leader's own clients skip the queue: the proposer groups them.
		c.sent = true
		f.mu.Unlock()
		if first {
			f.cond.Broadcast() // the sweeper
		}
		f.proposeLocal([]*call{c})
		return
	}
	f.push(c)
	f.mu.Unlock()
	f.cond.Broadcast()
}

// LeaderChanged ends the session with the old leader. The owner calls it on
// every change that consensus reports.
func (f *Forwarder) LeaderChanged() {
	f.mu.Lock()
	f.gen++
	f.mu.Unlock()
	f.cond.Broadcast()
}

// Close answers everything that waits and stops.
func (f *Forwarder) Close() {
	f.mu.Lock()
	f.closed = true
	calls := make([]*call, 0, len(f.live))
	for c := range f.live {
		calls = append(calls, c)
		c.over = true
	}
	f.live = map[*call]struct{}{}
	f.queue, f.bytes = nil, 0
	f.mu.Unlock()
	f.cond.Broadcast()
	f.cancel()
	for _, c := range calls {
		c.done(fsm.Result{}, 0, ErrClosed)
	}
	f.wg.Wait()
}

// push queues a call. The caller holds mu.
func (f *Forwarder) push(c *call) {
	f.queue = append(f.queue, c)
	f.bytes += len(c.cmd)
}

// take removes up to one frame of calls. The caller holds mu.
func (f *Forwarder) take() []*call {
	n, size := 0, 0
	for n < len(f.queue) && n < frameCommands {
		size += len(f.queue[n].cmd)
		if n > 0 && size > frameBytes {
			break
		}
		n++
	}
	var calls []*call
	for _, c := range f.queue[:n] {
		f.bytes -= len(c.cmd)
		if !c.over {
			c.sent = true
			calls = append(calls, c)
		}
	}
	f.queue = append(f.queue[:0:0], f.queue[n:]...)
	return calls
}

// finish answers calls and forgets them.
func (f *Forwarder) finish(calls []*call, results []fsm.Result, index uint64, err error) {
	f.mu.Lock()
	won := calls[:0:0]
	for i, c := range calls {
		if c.over {
			won = append(won, nil)
			continue
		}
		c.over = true
		delete(f.live, c)
		won = append(won, calls[i])
	}
	f.mu.Unlock()
	for i, c := range won {
		switch {
		case c == nil:
		case err != nil:
			c.done(fsm.Result{}, 0, err)
		default:
			c.done(results[i], index, nil)
		}
	}
}

// again queues calls that have no outcome, before those that came later.
func (f *Forwarder) again(calls []*call) {
	f.mu.Lock()
	back := make([]*call, 0, len(calls)+len(f.queue))
	for _, c := range calls {
		if !c.over && !f.closed {
			back = append(back, c)
			f.bytes += len(c.cmd)
		}
	}
	f.queue = append(back, f.queue...)
	f.mu.Unlock()
	f.cond.Broadcast()
}

func commandsOf(calls []*call) [][]byte {
	cmds := make([][]byte, len(calls))
	for i, c := range calls {
		cmds[i] = c.cmd
	}
	return cmds
}
