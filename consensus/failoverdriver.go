package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Injector starts an election on this node that needs no pre-vote.
type Injector func()

// failoverDriver feeds failover with evidence, changes of leader and time, and
// carries out what it decides. run owns the failover.
type failoverDriver struct {
	decide    failover
	now       func() time.Time
	situation func() situation
	inject    Injector
	metrics   *Metrics

	reports chan evidence
	changed chan struct{} // capacity 1
	longer  chan struct{} // capacity 1: see ahead
}

// reportQueue bounds evidence that waits for run: a flood is dropped, one
// verdict stands for all of it.
const reportQueue = 64

func newFailoverDriver(g *Group) *failoverDriver {
	return &failoverDriver{
		decide:    failover{cfg: g.cfg.Failover},
		now:       g.cfg.Now,
		situation: g.situation,
		inject:    g.link.injectElection,
		metrics:   g.metrics,
		reports:   make(chan evidence, reportQueue),
		changed:   make(chan struct{}, 1),
		longer:    make(chan struct{}, 1),
	}
}

func (g *Group) situation() situation {
	s := situation{leader: g.Leader(), self: g.id}
	for _, v := range g.servers() {
		if v.Suffrage == raft.Voter {
			s.voters = append(s.voters, string(v.ID))
		}
	}
	slices.Sort(s.voters)
	return s
}

func (d *failoverDriver) report(e evidence) {
	select {
	case d.reports <- e:
	default:
		d.count(e.kind, outcomeOverflow)
	}
}

// count keeps the label's values to the known ones: kind comes from outside.
func (d *failoverDriver) count(kind, outcome string) {
	if !slices.Contains(evidenceKinds, kind) {
		kind = "unknown"
	}
	d.metrics.evidence.WithLabelValues(kind, outcome).Inc()
}

func (d *failoverDriver) leaderChanged(LeaderInfo) {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// ahead reports that a candidate for a dead leader's office asked for the vote
// of this node, whose log goes further.
func (d *failoverDriver) ahead() {
	select {
	case d.longer <- struct{}{}:
	default:
	}
}

func (d *failoverDriver) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		fire, next := d.decide.step(d.now(), d.situation())
		if fire {
			d.inject()
		}
		timer.Stop()
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(next.Sub(d.now()))
			due = timer.C
		}
		select {
		case e := <-d.reports:
			d.count(e.kind, d.decide.report(d.now(), e, d.situation()))
		case <-d.longer:
			d.decide.ahead(d.now(), d.situation())
		case <-d.changed:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}
