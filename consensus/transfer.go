package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// transferElections is how many election timeouts raft may refuse entries
// because of a transfer. A transfer that ends well or badly takes at most two:
// one for the target to catch up and answer, one for it to win.
const transferElections = 6

// transferStuckAfter bounds the library's "transfer in progress". Past it the
// flag is stuck (hashicorp/raft issue 696): its goroutine waits for a
// replication that has ended, for ever, also across later terms of this node.
// No call clears it, so the node gives up and restarts.
func (g *Group) transferStuckAfter() time.Duration {
	return transferElections * g.cfg.Timing.Election
}

// TransferLeadership hands the leadership to the voter that is most up to date.
// It returns nil once this node leads no more. On an error this node is, or is
// again, a leader that takes proposals, unless the error says otherwise.
// Proposals wait meanwhile. At most one transfer runs at a time.
func (g *Group) TransferLeadership(ctx context.Context) error {
	select {
	case g.transferring <- struct{}{}:
		defer func() { <-g.transferring }()
	case <-ctx.Done():
		return ctx.Err()
	}
	of := g.leadership.office.Load()
	if of == nil {
		return g.notLeader()
	}
	target, ok := g.successor(of.term)
	if !ok {
		g.metrics.transfers.WithLabelValues("failed").Inc()
		return fmt.Errorf("consensus: transfer the leadership: no voter answered within %v", g.cfg.Timing.Heartbeat)
	}
	f := releasable(g.raft.LeadershipTransferToServer(target.ID, target.Address), g.dead)
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	bound := time.NewTimer(g.transferStuckAfter())
	defer bound.Stop()
	var err error
	select {
	case err = <-done:
	case <-of.ctx.Done(): // what was asked for, whatever the future says later
	case <-bound.C:
		err = fmt.Errorf("no answer from raft in %v", g.transferStuckAfter())
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil { // raft has left; wait until everyone here knows
		select {
		case <-of.ctx.Done():
		case <-bound.C:
			err = fmt.Errorf("still leader of term %d", of.term)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		g.metrics.transfers.WithLabelValues("failed").Inc()
		return fmt.Errorf("consensus: transfer the leadership to %s: %w", target.ID, err)
	}
	g.metrics.transfers.WithLabelValues("ok").Inc()
	return nil
}

// successor picks the voter with the longest log among those that answered
// lately. The library's own choice does not ask whether the target is alive;
// a transfer to a dead one is what leads to issue 696.
func (g *Group) successor(term uint64) (raft.Server, bool) {
	health := g.contacts.health(term)
	var best raft.Server
	var bestIndex uint64
	for _, s := range g.servers() {
		h, ok := health[string(s.ID)]
		if s.Suffrage != raft.Voter || string(s.ID) == g.id || !ok || g.cfg.Now().Sub(h.LastContact) > g.cfg.Timing.Heartbeat {
			continue
		}
		if best.ID == "" || h.LastIndex > bestIndex {
			best, bestIndex = s, h.LastIndex
		}
	}
	return best, best.ID != ""
}

// StepDown gives up the leadership in an orderly way if there is time, and the
// node's place in the group if there is not. It returns nil when another node
// may lead and this one may go on as a follower.
func (g *Group) StepDown(ctx context.Context, reason string) error {
	if g.raft.State() != raft.Leader {
		return nil
	}
	err := g.TransferLeadership(ctx)
	if err == nil || g.raft.State() != raft.Leader {
		return nil
	}
	err = fmt.Errorf("consensus: step down (%s): %w", reason, err)
	g.Abandon(err)
	return err
}

// Abandon makes this node as good as gone for its peers and then calls OnFatal:
// the process must exit. It is what helps when the disk hangs: raft's main loop
// then sits in a write, cannot run a transfer or a step-down, and its
// heartbeats, which need no disk, would keep it in office for as long as the
// disk hangs. With the connections cut the others elect, by evidence or by
// their timers.
func (g *Group) Abandon(reason error) {
	g.link.cut(reason.Error())
	g.proposer.shut(gateStopped)
	g.deadOnce.Do(func() { close(g.dead) }) // frees who waits for a stuck write
	g.fatal(reason)
}
