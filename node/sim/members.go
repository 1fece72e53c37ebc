package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
)

// mostHosts bounds how many machines a run sees.
const mostHosts = 9

var joinHash = [32]byte{1}

// admin commits one command through whoever leads, until it is done or ctx
// ends. Refusals for which done says yes are as good.
func (w *World) admin(ctx context.Context, kind fsm.CommandType, body any) error {
	cmd, err := fsm.NewCommand(kind, fsm.RequestID{}, "admin", body)
	if err != nil {
		return err
	}
	last := errors.New("no leader")
	for ctx.Err() == nil {
		if p := w.leader(); p != nil {
			var results []fsm.Result
			try, cancel := context.WithTimeout(ctx, 5*time.Second)
			results, last = p.proposeHere(try, [][]byte{cmd})
			cancel()
			if last == nil {
				switch r := results[0]; r.Code {
				case fsm.OK, fsm.CodeConflict: // done, now or by an earlier try
					return nil
				default:
					last = fmt.Errorf("%s: %s", r.Code, r.Detail)
				}
			}
		}
		sleep(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("command %d: %w", kind, last)
}

// boot makes a cluster of the first machines, all of them voters.
func (w *World) boot() error {
	for i := range w.cfg.Nodes {
		w.newHost(fmt.Sprintf("n%d", i+1))
	}
	first := w.hosts[0]
	first.start(true)
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	if err := w.admin(ctx, fsm.CmdInitCluster, fsm.InitCluster{ClusterID: "sim", CACert: []byte{1}, CAKey: []byte{2}, First: fsm.NodeID(first.id)}); err != nil {
		return err
	}
	if err := w.admin(ctx, fsm.CmdCreateToken, fsm.CreateToken{ID: "join", Role: fsm.RoleNode, Hash: joinHash}); err != nil {
		return err
	}
	w.mu.Lock()
	first.joined = true
	p := first.proc
	w.mu.Unlock()
	w.group.Go(p.work)
	for _, h := range w.hosts[1:] {
		if err := w.admit(ctx, h); err != nil {
			return err
		}
	}
	voters := w.cfg.Nodes - 1 + w.cfg.Nodes%2
	if !w.wait(time.Minute, func() bool { return w.voters() == voters }) {
		return fmt.Errorf("after a minute %d of %d nodes vote, want %d", w.voters(), w.cfg.Nodes, voters)
	}
	return nil
}

// voters is how many vote, as the leader says.
func (w *World) voters() (n int) {
	p := w.leader()
	if p == nil {
		return 0
	}
	for _, m := range p.group.Members() {
		if m.Voter {
			n++
		}
	}
	return n
}

// admit makes a machine a member and starts it.
func (w *World) admit(ctx context.Context, h *host) error {
	if err := w.admin(ctx, fsm.CmdAdmitNode, fsm.AdmitNode{TokenID: "join", Hash: joinHash, Node: fsm.NodeID(h.id)}); err != nil {
		return err
	}
	w.mu.Lock()
	h.joined = true
	w.mu.Unlock()
	h.start(false)
	return nil
}

// join adds a machine.
func (n *nemesis) join() func() {
	w := n.w
	w.mu.Lock()
	count := len(w.hosts)
	w.mu.Unlock()
	if count >= mostHosts {
		return nil
	}
	h := w.newHost(fmt.Sprintf("n%d", count+1))
	w.group.Go(func() {
		if err := w.admit(w.ctx, h); err != nil && w.ctx.Err() == nil {
			w.problem("join", "%s could not join: %v", h.id, err)
		}
	})
	return func() {}
}

// leave removes a machine that runs.
func (n *nemesis) leave() func() {
	h := n.any()
	if !n.spare(h) {
		return nil
	}
	n.remove(h)
	return func() {}
}

// replace takes a machine's disk away: somebody starts it again, but it may not
// come back under its old identity, so it is removed, and another one joins.
func (n *nemesis) replace() func() {
	h := n.any()
	if !n.spare(h) {
		return nil
	}
	h.crash(true)
	h.drive().wipe()
	h.start(false)
	if h.is(func(h *host) bool { return h.proc != nil }) {
		n.w.trace("%s has lost its disk and comes back", h.id)
		return func() {}
	}
	n.remove(h)
	return n.join()
}

// leastMembers may a removal leave: less, and the next fault takes the majority
// of the disks.
const leastMembers = 3

// spare says whether the cluster can do without a machine: enough others are in
// the group, enough vote, and no other one is on its way out. Without that rule
// two faults take a majority of the disks, and then nothing is promised.
func (n *nemesis) spare(h *host) bool {
	w := n.w
	p := w.leader()
	if p == nil {
		return false
	}
	voters, others := 0, 0
	for _, m := range p.group.Members() {
		if m.Voter {
			voters++
		}
		if m.ID != h.id {
			others++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.hosts {
		if o.leaving && !o.removed {
			return false
		}
	}
	return h.joined && !h.leaving && voters >= leastMembers && others >= leastMembers
}

// remove takes a machine out of the cluster, however long that takes.
func (n *nemesis) remove(h *host) {
	w := n.w
	w.mu.Lock()
	h.leaving, h.wanted = true, false
	w.mu.Unlock()
	w.trace("remove %s", h.id)
	w.leaving.Add(1)
	w.group.Go(func() {
		defer w.leaving.Done()
		for w.ctx.Err() == nil {
			if err := w.removeOnce(h); err == nil {
				break
			}
			sleep(w.ctx, 200*time.Millisecond)
		}
		w.trace("%s is removed", h.id)
		h.crash(false)
		w.mu.Lock()
		h.removed = true
		w.mu.Unlock()
	})
}

// removeOnce is node's way to remove a member, on the leader.
func (w *World) removeOnce(h *host) error {
	p := w.leader()
	if p == nil {
		return errors.New("no leader")
	}
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	if p.host == h {
		return errors.Join(errors.New("it leads"), p.group.TransferLeadership(ctx))
	}
	voters, healthy, member := 0, 0, false
	for _, m := range p.group.Members() {
		switch {
		case !m.Voter:
		case m.ID == h.id:
			member = true
		default:
			voters++
			if m.Healthy || m.Leader {
				healthy++
			}
		}
	}
	if member && healthy < voters/2+1 {
		return consensus.ErrUnsafe
	}
	if v, ok := p.state.Node(fsm.NodeID(h.id)); ok && !v.Removed {
		cmd, err := fsm.NewCommand(fsm.CmdRemoveNode, fsm.RequestID{}, "admin", fsm.RemoveNode{Node: fsm.NodeID(h.id)})
		if err != nil {
			return err
		}
		results, err := p.proposeHere(ctx, [][]byte{cmd})
		if err != nil {
			return err
		}
		if r := results[0]; r.Code != fsm.OK {
			return errors.New(r.Detail)
		}
	}
	if err := p.group.RemoveServer(ctx, h.id); err != nil && !errors.Is(err, consensus.ErrNotMember) {
		return err
	}
	return nil
}
