package node

import (
	"context"
	"fmt"
	"time"

	"holdfast/transport"
)

// peerRhythm is how often the set of peers that this node keeps in touch with
// is brought up to date.
const peerRhythm = time.Second

// keepPeers keeps connections to every member warm, so that a new leader does
// not begin with a handshake, and notes addresses for the next start.
func (n *Node) keepPeers() {
	tick := time.NewTicker(peerRhythm)
	defer tick.Stop()
	for {
		if n.group.Leader().ID == "" || n.missesMembers() {
			n.discover(n.ctx)
		}
		if n.group.Leader().ID == "" && n.refusedByMajority(n.ctx) {
			n.fail(fmt.Errorf("%w: most of the other members refuse its certificate", ErrRemoved))
			return
		}
		var peers []transport.Peer
		for _, m := range n.group.Members() {
			if m.ID == n.id {
				continue
			}
			addr := m.Addr
			if a, ok := n.resolve(m.ID); ok {
				addr = a
			}
			n.note(m.ID, addr)
			peers = append(peers, transport.Peer{NodeID: m.ID, Addr: addr, Classes: []transport.Class{transport.Raft, transport.RPC}})
		}
		n.mux.Warm(peers)
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// refusalPatience bounds the question to one member: a refusal comes within a
// round trip.
const refusalPatience = 500 * time.Millisecond

// missesMembers reports whether gossip cannot find a member.
func (n *Node) missesMembers() bool {
	gossip := n.members.Load()
	for _, m := range n.group.Members() {
		if m.ID != n.id && (gossip == nil || !gossip.Alive(m.ID)) {
			return true
		}
	}
	return false
}

// refusedByMajority reports whether most of the other members refuse this
// node's certificate. They close to a removed node the moment they apply its
// removal, often before the removal itself has reached it. One member's word
// is not enough: it may be the one that went bad.
func (n *Node) refusedByMajority(ctx context.Context) bool {
	others, refused := 0, 0
	for _, m := range n.group.Members() {
		if m.ID == n.id {
			continue
		}
		others++
		addr, ok := n.resolve(m.ID)
		if !ok {
			addr = m.Addr
		}
		ctx, cancel := context.WithTimeout(ctx, refusalPatience)
		_, err := n.mux.Dial(ctx, addr, transport.RPC, m.ID)
		cancel()
		if transport.RefusedByPeer(err) || transport.RevokedByPeer(err) {
			refused++
		}
	}
	return 2*refused > others
}

// discover asks the configured addresses who is there: after every node has
// moved, nothing else leads to them.
func (n *Node) discover(ctx context.Context) {
	found := peerAddrs{}
	for _, addr := range n.cfg.Peers {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		conn, err := n.mux.Dial(ctx, addr, transport.RPC, "")
		cancel()
		if err != nil {
			n.log.Debug("no node at a configured address", "addr", addr, "error", err)
			continue
		}
		if id := conn.PeerNodeID(); id != n.id {
			found[id] = addr
			n.note(id, addr)
		}
	}
	n.book.setFound(found)
}
