package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/scheduler"
	"holdfast/node/worker/dispatch"
	"holdfast/node/worker/lease"
)

// newLeaderParts makes what works while this node leads: the scheduler's
// loop, the workers' leases and the hub that talks to the workers.
func (n *Node) newLeaderParts() {
	n.loop = scheduler.NewLoop(scheduler.Config{
		State: n.state, Propose: n.proposeHere, Now: n.stateTime, Logger: n.log.Named("scheduler"), Registerer: n.registry,
	})
	n.leases = lease.NewKeeper(lease.Config{
		Duration: time.Duration(n.cfg.Lease), Workers: n.leasedWorkers, Propose: n.proposeHere, Now: n.now, Logger: n.log.Named("lease"),
	})
	n.hub = dispatch.New(dispatch.Config{
		State: n.state, Leases: n.leases, Propose: n.proposeHere, Verify: n.verifyLeader, Reported: n.loop.Wake, Logger: n.log.Named("dispatch"), Registerer: n.registry,
	})
}

// stateTime is the clock of the state's timers. Nobody asks for it before the
// group is open.
func (n *Node) stateTime() time.Time {
	select {
	case <-n.grouped:
		return n.group.Time()
	default:
		return n.now()
	}
}

// lead runs one office. Everything committed before it is applied here.
func (n *Node) lead(ctx context.Context, term uint64) {
	ctx = context.WithValue(ctx, officeKey{}, term)
	n.log.Info("this node leads", "term", term)
	done := make(chan struct{}, 3)
	run := func(f func()) { go func() { f(); done <- struct{}{} }() }
	run(func() { n.leases.Run(ctx) })
	run(func() { n.hub.Lead(ctx, term) })
	run(func() { n.loop.Run(ctx) })
	for range cap(done) {
		<-done
	}
	n.log.Info("this node no longer leads", "term", term)
}

// officeKey is the context key of the term that an office's work belongs to.
type officeKey struct{}

// proposeHere commits commands as one unit on this leader and returns once
// they are applied here. What an office decides is proposed for that office.
func (n *Node) proposeHere(ctx context.Context, cmds [][]byte) ([]fsm.Result, error) {
	type outcome struct {
		results []fsm.Result
		err     error
	}
	ch := make(chan outcome, 1)
	term, _ := ctx.Value(officeKey{}).(uint64) // 0 = any: somebody's request
	n.group.ProposeIn(term, cmds, func(r []fsm.Result, _ uint64, err error) { ch <- outcome{r, err} })
	select {
	case o := <-ch:
		return o.results, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", consensus.ErrUnknownOutcome, ctx.Err())
	}
}

// verifyLeader succeeds if a majority followed this node after the call.
func (n *Node) verifyLeader(ctx context.Context) error {
	_, err := n.group.ReadIndex(ctx)
	return err
}

// leasedWorkers are those whose silence matters.
func (n *Node) leasedWorkers() []lease.Worker {
	var out []lease.Worker
	for _, v := range n.state.Nodes() {
		if v.Registered && !v.Lost && !v.Removed {
			out = append(out, lease.Worker{Node: v.ID, Incarnation: v.Incarnation})
		}
	}
	return out
}

// admitMember brings a registered node into the raft group. It runs on the
// leader.
//
// The address in raft's configuration stays that of the first registration:
// the transport finds nodes by ID, and raft 1.8 reads a peer's record without
// a lock while a change of its address writes it (updateLastAppended beside
// startStopReplication).
func (n *Node) admitMember(ctx context.Context, id, addr string) error {
	for _, m := range n.group.Members() {
		if m.ID == id {
			return nil
		}
	}
	return n.group.AddNonvoter(ctx, id, addr)
}

// removeMember ends a node's membership, on the leader. The state comes
// first: from then on the node's certificate is refused and its tasks move;
// if the rest fails, the caller asks again and it goes on from there.
func (n *Node) removeMember(ctx context.Context, id string) error {
	view, ok := n.state.Node(fsm.NodeID(id))
	if !ok {
		return fmt.Errorf("%w: node %s", errUnknownNode, id)
	}
	if id == n.id && len(n.group.Members()) > 1 {
		// Here and not where the request came in: the office may have come back
		// to this node since somebody there looked.
		var notLeader *consensus.NotLeaderError
		if err := n.group.TransferLeadership(ctx); err != nil && !errors.As(err, &notLeader) {
			return fmt.Errorf("%w: hand over before the leader is removed: %w", consensus.ErrUnsafe, err)
		}
		return &consensus.NotLeaderError{} // the next leader does the rest
	}
	if err := n.awaitSafeRemoval(ctx, id); err != nil {
		return err
	}
	if !view.Removed {
		cmd, err := fsm.NewCommand(fsm.CmdRemoveNode, fsm.RequestID{}, "node:"+n.id, fsm.RemoveNode{Node: fsm.NodeID(id)})
		if err != nil {
			return err
		}
		results, err := n.proposeHere(ctx, [][]byte{cmd})
		if err != nil {
			return err
		}
		if r := results[0]; r.Code != fsm.OK {
			return fmt.Errorf("remove node %s: %s", id, r.Detail)
		}
	}
	if err := n.group.RemoveServer(ctx, id); err != nil && !errors.Is(err, consensus.ErrNotMember) {
		return fmt.Errorf("remove node %s from the raft group: %w", id, err)
	}
	return nil
}

var errUnknownNode = errors.New("no such node")

// healthPatience is how long a leader may take to hear from the others: one
// that was just elected knows nothing of their health yet.
const healthPatience = 3 * time.Second

// awaitSafeRemoval returns nil as soon as the removal is safe.
func (n *Node) awaitSafeRemoval(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	for {
		err := n.removalIsSafe(id)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// removalIsSafe asks before anything is changed what the raft group would ask
// after it.
func (n *Node) removalIsSafe(id string) error {
	voters, healthy, member := 0, 0, false
	for _, m := range n.group.Members() {
		if !m.Voter {
			continue
		}
		if m.ID == id {
			member = true
			continue
		}
		voters++
		if m.Healthy || m.Leader {
			healthy++
		}
	}
	if member && (voters == 0 || healthy < voters/2+1) {
		return fmt.Errorf("%w: without node %s %d of %d voters would be healthy", consensus.ErrUnsafe, id, healthy, voters)
	}
	return nil
}
