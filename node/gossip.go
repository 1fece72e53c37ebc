package node

import (
	"fmt"

	"holdfast/fsm"
	"holdfast/node/membership"
)

// startGossip begins to exchange hints with the others.
func (n *Node) startGossip() error {
	m, err := membership.New(membership.Config{
		ID:        n.id,
		Meta:      membership.Meta{Addr: n.addr, Name: n.cfg.Name, Version: Version(), Incarnation: n.incarnation},
		Transport: n.gossip, Peers: n.gossipPeers,
		Allowed:  func(id string) bool { return !n.state.Revoked(fsm.NodeID(id)) },
		OnChange: n.gossipChanged,
		OnDead:   func(m membership.Member, confirmations int) { n.group.GossipDead(m.ID, confirmations) },
		Now:      n.now, Logger: n.log.Named("gossip"),
	})
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	n.members.Store(m)
	return nil
}

// gossipPeers are those who should be there: the raft configuration first,
// then everybody this node has ever known.
func (n *Node) gossipPeers() []membership.Peer {
	var out []membership.Peer
	seen := map[string]bool{n.id: true}
	add := func(id, addr string) {
		if id != "" && addr != "" && !seen[id] && !n.state.Revoked(fsm.NodeID(id)) {
			seen[id] = true
			out = append(out, membership.Peer{ID: id, Addr: addr})
		}
	}
	for _, m := range n.group.Members() {
		// The book is newer than the configuration while a majority that
		// moved has not elected anybody yet.
		if addr, ok := n.book.get(m.ID); ok {
			add(m.ID, addr)
		}
		add(m.ID, m.Addr)
	}
	for id, addr := range n.book.all() {
		add(id, addr)
	}
	return out
}

func (n *Node) gossipChanged(m membership.Member) {
	n.log.Debug("gossip", "node", m.ID, "addr", m.Addr, "alive", m.Alive)
	if m.Alive && m.ID != n.id {
		n.note(m.ID, m.Addr)
	}
}

// gossipStatus is a column for people.
func (n *Node) gossipStatus() map[string]string {
	m := n.members.Load()
	if m == nil {
		return nil
	}
	out := map[string]string{}
	for _, v := range m.Members() {
		switch {
		case v.Alive:
			out[v.ID] = "alive"
		case v.Left:
			out[v.ID] = "left"
		default:
			out[v.ID] = "dead"
		}
	}
	return out
}
