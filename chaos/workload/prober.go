package workload

import (
	"context"
	"sync"
	"time"

	"holdfast/chaos/history"
)

// prober writes to one node on a fixed beat, whether or not the last write was
// answered: a client that waits for its answers would not see the pauses that
// it waits through.
type prober struct {
	l     *Load
	i     int
	slots []*slot // one per probe that can be under way
}

// slot is a client of the prober. A probe that got no answer leaves it with a
// connection that may be dead, or that TCP retries ever more seldom: the next
// probe gets a new one, or a healed node would look broken.
type slot struct {
	mu   sync.Mutex // held while a probe is under way
	s    *session
	old  []*session // that were replaced, the oldest first
	used int
}

func (l *Load) newProber(i int) *prober {
	// A probe and the closing of its connection fit between two beats of a slot.
	p := &prober{l: l, i: i, slots: make([]*slot, int(l.cfg.ProbeTimeout/l.cfg.ProbeEvery)+2)}
	for k := range p.slots {
		p.slots[k] = &slot{}
	}
	return p
}

// run begins a probe on every beat. The nodes' beats are shifted against each
// other, so that together they see finer than each.
func (p *prober) run(ctx context.Context) {
	var work sync.WaitGroup
	defer func() {
		work.Wait()
		for _, s := range p.slots {
			s.drop()
		}
	}()
	shift := time.NewTimer(p.l.cfg.ProbeEvery * time.Duration(p.i) / time.Duration(len(p.l.cfg.Nodes)))
	defer shift.Stop()
	select {
	case <-shift.C:
	case <-ctx.Done():
		return
	}
	calls := context.WithoutCancel(ctx)
	beat := 0
	every(ctx, p.l.cfg.ProbeEvery, func() {
		k := beat % len(p.slots)
		beat++
		if s := p.slots[k]; s.mu.TryLock() {
			work.Go(func() {
				defer s.mu.Unlock()
				p.probe(calls, k, s)
			})
		}
	})
}

// probe writes once. The caller holds the slot.
func (p *prober) probe(ctx context.Context, k int, s *slot) {
	node := p.l.cfg.Nodes[p.i]
	if s.s == nil {
		process := proberProcess + p.i*100 + k
		var err error
		if s.s, err = p.l.newSession(process, []Target{node}, 1, p.l.cfg.ProbeTimeout, p.l.cfg.ProbeTimeout); err != nil {
			return // it was checked for the other clients
		}
		s.s.keys = s.used
	}
	ids := s.s.submit(ctx, history.Probe, s.s.key(), node.Name, "cheap", 1)
	s.used = s.s.keys
	// A connection only closes when the probe that it carried has left it,
	// which may be after it was given up: the next round closes again.
	for _, old := range s.old {
		old.cl.Close()
	}
	s.old = s.old[max(0, len(s.old)-keptSessions):]
	if ids == nil {
		s.drop()
	}
}

// keptSessions is for how many rounds of its slot a client that was replaced
// has its connections closed.
const keptSessions = 3

func (s *slot) drop() {
	for _, old := range s.old {
		old.cl.Close()
	}
	if s.s != nil {
		s.s.cl.Close()
		s.old = append(s.old, s.s)
		s.s = nil
	}
}
