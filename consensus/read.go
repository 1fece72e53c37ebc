package consensus

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// reader answers linearizable reads: an index that covers every write that was
// answered before the read began, from a leader that is confirmed to have been
// the leader after it began.
//
// Reads share rounds. A read may only join a round that starts after the read
// arrived; those that arrive while a round runs wait for the next one.
type reader struct {
	g *Group

	wake chan struct{} // capacity 1

	mu   sync.Mutex
	next *round // guarded by mu; nil if nobody waits
}

type round struct {
	done  chan struct{}
	index uint64
	err   error
}

func (r *reader) readIndex(ctx context.Context) (uint64, error) {
	r.g.metrics.reads.Inc()
	if r.g.leadership.office.Load() == nil {
		return 0, r.g.notLeader()
	}
	r.mu.Lock()
	rd := r.next
	if rd == nil {
		rd = &round{done: make(chan struct{})}
		r.next = rd
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	select {
	case <-rd.done:
		return rd.index, rd.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run starts the rounds, one at a time.
func (r *reader) run(ctx context.Context) {
	r.g.leadership.addDuty(r.remember)
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			r.finish(r.take(), 0, ErrStopped)
			return
		}
		for {
			rd := r.take()
			if rd == nil {
				break
			}
			index, err := r.round(ctx)
			r.finish(rd, index, err)
		}
	}
}

// remember keeps the age of what a leader may serve beyond its office: cut off
// from the others, it hears nothing that would tell how old its state is. It is
// a duty, not a look at raft's answers, because before its office a leader may
// not have applied what its predecessor acknowledged.
func (r *reader) remember(ctx context.Context, term uint64) {
	<-ctx.Done()
	r.g.contacts.led(r.g.contacts.quorumAt(r.g.id, r.g.servers(), term))
}

func (r *reader) take() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	rd := r.next
	r.next = nil
	return rd
}

func (r *reader) finish(rd *round, index uint64, err error) {
	if rd == nil {
		return
	}
	rd.index, rd.err = index, err
	close(rd.done)
}

// round confirms the leader once. The commit index is read first: it covers
// everything answered so far (what is not durable here was not), and it is this leader's own because an entry of
// this term is committed (see leadership.take).
func (r *reader) round(ctx context.Context) (uint64, error) {
	g := r.g
	g.metrics.readRounds.Inc()
	of := g.leadership.office.Load()
	if of == nil {
		return 0, g.notLeader()
	}
	index := g.CommitIndex()
	mark, _ := g.contacts.mark()
	select { // an old wake-up
	case <-g.contacts.acked:
	default:
	}
	// Only the side effect is wanted: a heartbeat to every peer, now. Its own
	// verdict counts too much (see contacts). An unread future is garbage.
	// A leader alone needs no heartbeat.
	servers := g.servers()
	if !g.contacts.confirmed(g.id, servers, of.term, mark) {
		g.raft.VerifyLeader()
	}
	timeout := time.NewTimer(g.cfg.Timing.Heartbeat)
	defer timeout.Stop()
	for !g.contacts.confirmed(g.id, servers, of.term, mark) {
		select {
		case <-g.contacts.acked:
		case <-of.ctx.Done():
			return 0, g.notLeader()
		case <-timeout.C:
			return 0, ErrNoQuorum
		case <-ctx.Done():
			return 0, ErrStopped
		}
		servers = g.servers()
	}
	if g.raft.State() != raft.Leader || g.raft.CurrentTerm() != of.term {
		return 0, g.notLeader()
	}
	return index, nil
}

// age is how old a local read may be: at most so long ago this state was the
// newest committed one, as far as this node can know. ok is false if it never
// was. A leader's age runs from when a majority was last known to follow it,
// also after its office, a follower's from the last commit index that it was
// told and has applied; the time that a message was under way is not in it.
func (g *Group) age() (time.Duration, bool) {
	var at time.Time
	if of := g.leadership.office.Load(); of != nil {
		at = g.contacts.quorumAt(g.id, g.servers(), of.term)
	} else {
		at = g.contacts.fresh(g.applier.applied.index.Load())
	}
	if at.IsZero() {
		return 0, false
	}
	return max(0, g.cfg.Now().Sub(at)), true
}
