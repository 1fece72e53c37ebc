package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/client"
	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/forward"
	"holdfast/node/rpc"
	"holdfast/transport"
	"holdfast/transport/pki"
)

// backend is the node as the API sees it.
type backend struct{ n *Node }

// State gives this node's copy of the replicated state.
func (b backend) State() api.State { return b.n.state }

// Propose brings a command to the leader, whoever that is by then.
func (b backend) Propose(ctx context.Context, cmd []byte) (fsm.Result, uint64, error) {
	r, index, err := b.n.forward.Propose(ctx, cmd)
	return r, index, apiError(err)
}

// ProposeAsync is Propose with a callback.
func (b backend) ProposeAsync(deadline time.Time, cmd []byte, done func(fsm.Result, uint64, error)) {
	b.n.forward.ProposeAsync(deadline, cmd, func(r fsm.Result, index uint64, err error) { done(r, index, apiError(err)) })
}

// apiError sorts the node's errors into those that the API knows.
func apiError(err error) error {
	var remote *rpc.Error
	var notLeader *consensus.NotLeaderError
	kind := error(nil)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, forward.ErrNoLeader), errors.As(err, &notLeader), errors.Is(err, consensus.ErrNoQuorum):
		kind = api.ErrNoLeader
	case errors.Is(err, consensus.ErrOverloaded):
		kind = api.ErrOverloaded
	case errors.Is(err, consensus.ErrUnknownOutcome):
		kind = api.ErrUnknownOutcome
	case errors.Is(err, forward.ErrClosed), errors.Is(err, consensus.ErrStopped):
		kind = api.ErrStopping
	case errors.Is(err, consensus.ErrTooLarge):
		kind = api.ErrInvalid
	case errors.Is(err, errUnknownNode):
		kind = api.ErrNotFound
	case errors.Is(err, consensus.ErrUnsafe):
		kind = api.ErrConflict
	case errors.As(err, &remote):
		switch remote.Code {
		case rpc.CodeNotFound:
			kind = api.ErrNotFound
		case rpc.CodeInvalid:
			kind = api.ErrConflict
		case rpc.CodeOverloaded:
			kind = api.ErrOverloaded
		case rpc.CodeUnknown:
			kind = api.ErrUnknownOutcome
		case rpc.CodeNotLeader, rpc.CodeUnavailable:
			kind = api.ErrNoLeader
		}
	}
	if kind == nil {
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// ReadBarrier returns once the state may be read as the options ask.
func (b backend) ReadBarrier(ctx context.Context, o api.ReadOptions) (api.ReadInfo, error) {
	n, min := b.n, o.MinIndex
	info := api.ReadInfo{}
	if o.Stale {
		age, ok := n.group.Age()
		if o.MaxAge > 0 && (!ok || age > o.MaxAge) {
			return info, fmt.Errorf("%w: %v old, at most %v asked for", api.ErrTooStale, age.Round(time.Millisecond), o.MaxAge)
		}
		if info.Age = age; !ok {
			info.Age = -1
		}
	} else {
		index, err := n.readIndex(ctx)
		if err != nil {
			return info, apiError(err)
		}
		min = max(min, index)
	}
	if err := n.group.WaitApplied(ctx, min); err != nil {
		return info, apiError(err)
	}
	info.Index = n.group.AppliedIndex()
	return info, nil
}

// readIndex asks the leader, again if it changes, until ctx ends.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	for {
		index, err := n.reads.read(ctx)
		if err == nil || ctx.Err() != nil || n.ctx.Err() != nil {
			return index, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return 0, err
		}
	}
}

// askReadIndex is one question: to this node's own group if it leads, else to
// the leader.
func (n *Node) askReadIndex(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	leader := n.group.Leader()
	if leader.Self {
		return n.group.ReadIndex(ctx)
	}
	if leader.ID == "" {
		return 0, forward.ErrNoLeader
	}
	var a indexAnswer
	if err := n.rpc.Call(ctx, leader.ID, methodReadIndex, nil, &a); err != nil {
		return 0, fmt.Errorf("%w: %w", forward.ErrNoLeader, err)
	}
	return a.Index, nil
}

// WatchTask wakes at the task's next change.
func (b backend) WatchTask(id fsm.TaskID) (<-chan struct{}, func()) { return b.n.watch.task(id) }

// Cluster is the status as this node sees it.
func (b backend) Cluster(ctx context.Context, hash bool) (*client.ClusterStatus, error) {
	n := b.n
	view, ok := n.state.Cluster()
	if !ok {
		return nil, fmt.Errorf("%w: this node has not received the cluster's state yet", api.ErrNoLeader)
	}
	leader, counts := n.group.Leader(), n.state.Counts()
	s := &client.ClusterStatus{
		ClusterID: view.ClusterID, Leader: leader.ID, LeaderAddr: leader.Addr, Term: leader.Term,
		Index: n.group.AppliedIndex(), CommitIndex: n.group.CommitIndex(), AnsweredBy: n.id,
		Queued: counts.Queued, Running: counts.Running, Finished: counts.Kept,
		FeatureLevel: int(view.FeatureLevel), CAPin: pki.Pin(n.creds.ca),
	}
	voters := 0
	for _, m := range n.membersFromLeader(ctx) {
		member := client.Member{ID: m.ID, Addr: m.Addr, Role: memberRole(m), Healthy: m.Healthy || m.Leader}
		if v, ok := n.state.Node(fsm.NodeID(m.ID)); ok {
			member.Name = v.Name
			if v.Addr != "" {
				member.Addr = v.Addr
			}
		}
		if m.Voter && member.Healthy {
			voters++
		}
		s.Members = append(s.Members, member)
	}
	s.Tolerates = tolerates(s.Members, voters)
	if hash {
		sum := n.state.Hash()
		s.StateHash = fmt.Sprintf("%x", sum)
	}
	return s, nil
}

// tolerates is how many of the healthy voters may fail before writes stop.
func tolerates(members []client.Member, healthy int) int {
	voters := 0
	for _, m := range members {
		if m.Role != "replica" {
			voters++
		}
	}
	return max(0, healthy-(voters/2+1))
}

// membersFromLeader asks who is healthy: only the leader knows. Without it
// the configuration alone is told.
func (n *Node) membersFromLeader(ctx context.Context) []consensus.Member {
	leader := n.group.Leader()
	if !leader.Self && leader.ID != "" {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		var ms []consensus.Member
		if err := n.rpc.Call(ctx, leader.ID, methodMembers, nil, &ms); err == nil {
			return ms
		}
	}
	return n.group.Members()
}

func memberRole(m consensus.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	}
	return "replica"
}

// Peers tells what raft and gossip say of each node.
func (b backend) Peers() map[fsm.NodeID]api.Peer {
	out := map[fsm.NodeID]api.Peer{}
	leader := b.n.group.Leader()
	for _, m := range b.n.group.Members() {
		m.Leader = m.ID == leader.ID
		out[fsm.NodeID(m.ID)] = api.Peer{Role: memberRole(m)}
	}
	for id, status := range b.n.gossipStatus() {
		p := out[fsm.NodeID(id)]
		if p.Role == "" {
			p.Role = "worker"
		}
		p.Gossip = status
		out[fsm.NodeID(id)] = p
	}
	return out
}

// TransferLeadership makes the leader hand over, from any node.
func (b backend) TransferLeadership(ctx context.Context) error {
	return apiError(b.n.atLeader(ctx, methodTransfer, nil, b.n.transferHere))
}

// RemoveNode takes a node out of the cluster for good. A leader that removes
// itself hands over first: the next one does the rest.
func (b backend) RemoveNode(ctx context.Context, id fsm.NodeID) error {
	n := b.n
	err := n.atLeader(ctx, methodRemove, string(id), func(ctx context.Context) error {
		return n.removeMember(ctx, string(id))
	})
	if string(id) == n.id && transport.RevokedByPeer(err) {
		// The leader closes to a removed node at once, often before it answers.
		n.fail(ErrRemoved)
		err = nil
	}
	return apiError(err)
}

// atLeader runs here on the leader, or by a call there. While there is none it
// waits, until ctx ends; it repeats nothing that may have happened.
func (n *Node) atLeader(ctx context.Context, method string, req any, here func(context.Context) error) error {
	for {
		var err error
		switch leader := n.group.Leader(); {
		case leader.Self:
			err = here(ctx)
		case leader.ID == "":
			err = forward.ErrNoLeader
		default:
			err = n.rpc.Call(ctx, leader.ID, method, req, nil)
		}
		var remote *rpc.Error
		var notLeader *consensus.NotLeaderError
		again := errors.Is(err, forward.ErrNoLeader) || errors.As(err, &notLeader) || errors.As(err, &remote) && remote.Code == rpc.CodeNotLeader
		if !again {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", forward.ErrNoLeader, ctx.Err())
		}
	}
}

// NotReady says why the node should get no requests.
func (b backend) NotReady() []string {
	n := b.n
	var why []string
	if n.draining.Load() {
		why = append(why, "draining")
	}
	if n.ctx.Err() != nil {
		why = append(why, "stopping")
	}
	if n.group.Leader().ID == "" {
		why = append(why, "no leader known")
	}
	if n.stalled() {
		why = append(why, "the disk does not finish a write of the log")
	}
	if age, ok := n.group.Age(); !ok || age > 5*time.Second {
		why = append(why, "state not known to be current for more than 5s")
	}
	return why
}
