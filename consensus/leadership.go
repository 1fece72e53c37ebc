package consensus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// LeaderInfo names the leader that this node knows. ID is empty if none.
type LeaderInfo struct {
	ID, Addr string
	Term     uint64
	Self     bool // this node, but perhaps not yet in office (see OnLeadership)
}

// office is one term of this node as leader.
type office struct {
	term   uint64
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// leadership owns the question who leads. Raft's LeaderCh drops edges (two
// quick changes are one), so one goroutine compares raft's state and term with
// what it last saw, woken by an observer and, because observations may be
// dropped too, by a ticker.
type leadership struct {
	g *Group

	info   atomic.Pointer[LeaderInfo]
	office atomic.Pointer[office] // nil when not in office or not leader

	current *office // owned by run

	mu       sync.Mutex
	duties   []func(ctx context.Context, term uint64) // guarded by mu
	onChange []func(LeaderInfo)                       // guarded by mu
	serving  *office                                  // the office whose duties run, guarded by mu
}

// leadershipPoll is the backstop for lost observations, which are rare: below
// a heartbeat timeout, and seldom enough that an idle node sleeps.
const leadershipPoll = 100 * time.Millisecond

func (l *leadership) run(ctx context.Context) {
	events := make(chan raft.Observation, 64)
	o := raft.NewObserver(events, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	l.g.raft.RegisterObserver(o)
	defer l.g.raft.DeregisterObserver(o)
	tick := time.NewTicker(leadershipPoll)
	defer tick.Stop()
	for {
		l.look(ctx)
		select {
		case e := <-events:
			if s, ok := e.Data.(raft.RaftState); ok && s == raft.Candidate {
				l.g.metrics.elections.WithLabelValues(l.g.link.takeCause()).Inc()
			}
		case <-tick.C:
		case <-ctx.Done():
			l.leave()
			return
		}
	}
}

// look compares what raft says with what was known.
func (l *leadership) look(ctx context.Context) {
	r := l.g.raft
	term := r.CurrentTerm()
	leads := r.State() == raft.Leader && r.CurrentTerm() == term
	addr, id := r.LeaderWithID()

	if l.current != nil && (!leads || l.current.term != term) {
		l.leave()
	}
	if leads && l.current == nil {
		of := &office{term: term}
		of.ctx, of.cancel = context.WithCancel(ctx)
		l.current = of
		// Before anyone is told who leads: they send what they have at once.
		l.g.proposer.open(term)
		of.work.Go(func() { l.take(of) })
	}
	info := LeaderInfo{ID: string(id), Addr: string(addr), Term: term, Self: leads}
	if leads {
		info.ID, info.Addr = l.g.id, string(l.g.link.LocalAddr())
	} else if info.ID == l.g.id {
		info.ID, info.Addr = "", "" // deposed, and raft has not noticed yet
	}
	if old := l.info.Load(); old.ID != info.ID || old.Addr != info.Addr || info.ID != "" && old.Term != info.Term {
		l.info.Store(&info)
		l.g.metrics.leaderChanges.Inc()
		l.g.failover.leaderChanged(info)
		l.mu.Lock()
		callbacks := l.onChange
		l.mu.Unlock()
		for _, f := range callbacks {
			f(info)
		}
	}
}

// leave ends the current office: at once for everyone who holds its context,
// and returns when their goroutines have ended.
func (l *leadership) leave() {
	of := l.current
	if of == nil {
		return
	}
	l.current = nil
	// In this order: take stores the office and then looks at the context, so
	// that one of the two takes it back.
	of.cancel()
	l.office.Store(nil)
	l.g.proposer.shut(gateClosed)
	l.mu.Lock()
	if l.serving == of {
		l.serving = nil
	}
	l.mu.Unlock()
	// Not waited for here: a duty that lingers must not keep us from seeing
	// the next change. Shutdown waits.
	l.g.background.Go(of.work.Wait)
}

// take makes a new leader ready for reads and duties with an entry that has no
// commands: when it is applied here, so is everything committed before, and
// every replica's applied index passes the library's own no-op, which no state
// machine is shown.
//
// The obvious order, a barrier first and proposals after it, makes every write
// wait for two more rounds after an election, and needs them for nothing: a
// proposal is only appended behind what is in the log, and the state judges it
// when its turn comes. So proposals go first, often in the same round as the
// library's no-op.
func (l *leadership) take(of *office) {
	g := l.g
	start := g.cfg.Now()
	for of.ctx.Err() == nil {
		entry := g.cfg.EncodeBatch(g.proposer.stamp(), nil)
		err := releasable(g.raft.Apply(entry, g.cfg.Timing.Election), g.dead).Error()
		if err == nil {
			break
		}
		g.log.Debug("not in office yet", "term", of.term, "error", err)
		if errors.Is(err, raft.ErrLeadershipTransferInProgress) && g.cfg.Now().Sub(start) > g.transferStuckAfter() {
			g.Abandon(ErrTransferStuck)
			return
		}
		pause(of.ctx, leadershipPoll)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if of.ctx.Err() != nil || g.raft.CurrentTerm() != of.term {
		return // run will see it too
	}
	l.office.Store(of)
	if of.ctx.Err() != nil { // leave may have come between
		l.office.CompareAndSwap(of, nil)
		return
	}
	l.serving = of
	for _, f := range l.duties {
		of.work.Go(func() { f(of.ctx, of.term) })
	}
}

func (l *leadership) addDuty(f func(context.Context, uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.duties = append(l.duties, f)
	if of := l.serving; of != nil && of.ctx.Err() == nil {
		of.work.Go(func() { f(of.ctx, of.term) })
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
