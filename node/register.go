package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/fsm"
	"holdfast/node/rpc"
	"holdfast/sandbox"
	"holdfast/transport"
)

// registerRetry is the pause between two rounds of asking every known address
// for the leader.
const registerRetry = 100 * time.Millisecond

// registerPatience bounds one candidate, so that a dead one does not use up the
// time of those behind it.
const registerPatience = 2 * time.Second

// refusedPatience is how long the others may refuse this node's certificate: a
// node that joins may be asked for before all of them know it.
const refusedPatience = 10 * time.Second

// errRefused ends a node that could only wait for ever.
var errRefused = errors.New("the other nodes refuse this node's certificate: it was removed from its cluster, or the certificate has ended; join again as a new node")

// description is this node as it describes itself to the cluster. A draining
// node offers nothing, so that it gets nothing new.
func (n *Node) description() fsm.Node {
	d := fsm.Node{
		ID: fsm.NodeID(n.id), Name: n.cfg.Name, Addr: n.addr, Version: Version(),
		Incarnation: n.incarnation, FeatureLevel: FeatureLevel, Weaker: n.weaker,
	}
	for k, v := range n.cfg.Labels {
		d.Labels = append(d.Labels, fsm.Label{Key: k, Value: v})
	}
	slices.SortFunc(d.Labels, func(a, b fsm.Label) int { return compare(a.Key, b.Key) })
	if !n.isolates.Load() || n.draining.Load() {
		return d
	}
	capacity := n.capacity()
	d.CPUMillis, d.MemoryBytes = uint32(capacity.CPUMillis), uint64(capacity.MemoryBytes)
	for _, a := range n.abilities() {
		if a.Enforced && a.Need != sandbox.NeedNote {
			d.Abilities = append(d.Abilities, a.Name)
		}
	}
	slices.Sort(d.Abilities)
	return d
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// register tells the cluster that this incarnation is there, and returns once
// that is committed. It asks the leader it knows of, or any node that it ever
// knew, until ctx ends.
func (n *Node) register(ctx context.Context) error {
	d := n.description()
	var refusedSince time.Time
	for {
		err := n.registerOnce(ctx, d)
		switch now := n.now(); {
		case !transport.RefusedByPeer(err):
			refusedSince = time.Time{}
		case refusedSince.IsZero():
			refusedSince = now
		case now.Sub(refusedSince) > refusedPatience:
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		var refused *rpc.Error
		if err == nil {
			n.registered.Store(true)
		}
		if err == nil || errors.As(err, &refused) && refused.Code == rpc.CodeForbidden {
			return err
		}
		n.log.Debug("not registered yet", "error", err)
		select {
		case <-time.After(registerRetry):
		case <-ctx.Done():
			return fmt.Errorf("register with the cluster: %w; last: %w", ctx.Err(), err)
		}
	}
}

func (n *Node) registerOnce(ctx context.Context, d fsm.Node) error {
	leader := n.group.Leader()
	if leader.Self {
		ctx, cancel := context.WithTimeout(ctx, registerPatience)
		defer cancel()
		return n.registerHere(ctx, d)
	}
	candidates := []string{leader.ID}
	if leader.ID == "" {
		candidates = candidates[:0]
		for id := range n.book.all() {
			if id != n.id {
				candidates = append(candidates, id)
			}
		}
		slices.Sort(candidates)
	}
	err := errors.New("no other node is known: set peers in the configuration")
	var refusal error
	for _, id := range candidates {
		if err = n.registerAt(ctx, id, d); err == nil {
			return nil
		}
		if transport.RefusedByPeer(err) {
			refusal = err // says more than that another one is out of reach
		}
	}
	return cmp.Or(refusal, err)
}

// registerAt asks one node, and the leader that it points to.
func (n *Node) registerAt(ctx context.Context, id string, d fsm.Node) error {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	err := n.rpc.Call(ctx, id, methodRegister, d, nil)
	var refused *rpc.Error
	if errors.As(err, &refused) && refused.Code == rpc.CodeNotLeader && refused.Leader != "" && refused.Leader != id {
		if refused.Leader == n.id {
			return n.registerHere(ctx, d)
		}
		if _, known := n.book.get(refused.Leader); !known {
			n.note(refused.Leader, refused.LeaderAddr)
		}
		err = n.rpc.Call(ctx, refused.Leader, methodRegister, d, nil)
	}
	return err
}

// registerHere is the leader's part.
func (n *Node) registerHere(ctx context.Context, d fsm.Node) error {
	cmd, err := fsm.NewCommand(fsm.CmdRegisterNode, fsm.RequestID{}, "node:"+string(d.ID), fsm.RegisterNode{Node: d})
	if err != nil {
		return rpc.Errorf(rpc.CodeInvalid, "%v", err)
	}
	results, err := n.proposeHere(ctx, [][]byte{cmd})
	if err != nil {
		return n.leaderError(err)
	}
	switch r := results[0]; r.Code {
	case fsm.OK:
	case fsm.CodeForbidden:
		return rpc.Errorf(rpc.CodeForbidden, "node %s was removed from the cluster, or never admitted: %s", d.ID, r.Detail)
	default:
		return rpc.Errorf(rpc.CodeInvalid, "register node %s: %s: %s", d.ID, r.Code, r.Detail)
	}
	n.note(string(d.ID), d.Addr)
	if err := n.admitMember(ctx, string(d.ID), d.Addr); err != nil {
		return n.leaderError(err)
	}
	return nil
}

// note remembers a node's address; a full disk only costs the hint.
func (n *Node) note(id, addr string) {
	if err := n.book.set(id, addr); err != nil {
		n.log.Warn("address book not stored", "error", err)
	}
}
