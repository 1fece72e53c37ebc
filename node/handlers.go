package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/forward"
	"holdfast/node/rpc"
	"holdfast/transport"
	"holdfast/transport/pki"
)

// kindRPC begins every stream of package rpc; raft's snapshots share class
// bulk under a kind of their own.
const kindRPC byte = 'R'

// serveRPC registers everything that other nodes may ask. Call it before the
// mux serves.
func (n *Node) serveRPC() {
	s := rpc.NewServer(n.log.Named("rpc"))
	s.HandleStream(methodForward, func(ctx context.Context, peer string, _ []byte, conn net.Conn) {
		if err := forward.Serve(ctx, n.group, conn); err != nil {
			n.log.Debug("a follower's stream ended", "peer", peer, "error", err)
		}
	})
	s.Handle(methodReadIndex, func(ctx context.Context, _ string, _ []byte) (any, error) {
		index, err := n.group.ReadIndex(ctx)
		return indexAnswer{index}, n.leaderError(err)
	})
	s.Handle(methodRegister, n.answerRegister)
	s.Handle(methodRenew, n.answerRenew)
	s.HandleStream(methodWorker, func(ctx context.Context, peer string, _ []byte, conn net.Conn) {
		if err := n.hub.Serve(ctx, fsm.NodeID(peer), conn); err != nil {
			n.log.Debug("a worker's session ended", "peer", peer, "error", err)
		}
	})
	s.Handle(methodTransfer, func(ctx context.Context, _ string, _ []byte) (any, error) {
		return nil, n.transferHere(ctx)
	})
	s.Handle(methodRemove, n.answerRemove)
	s.Handle(methodMembers, func(context.Context, string, []byte) (any, error) {
		if !n.group.Leader().Self {
			return nil, n.leaderError(&consensus.NotLeaderError{})
		}
		return n.group.Members(), nil
	})
	s.HandleStream(methodOutput, n.serveOutput)
	s.HandleStream(methodRestore, n.serveRestore)
	stream := func(ctx context.Context, st *transport.Stream) { s.ServeStream(ctx, st.Conn().PeerNodeID(), st) }
	n.mux.HandleStream(transport.RPC, kindRPC, stream)
	n.mux.HandleStream(transport.Bulk, kindRPC, stream)
	n.mux.Handle(transport.Join, n.serveJoin)
	n.mux.Handle(transport.Client, n.serveClient)
}

// openStream is how package rpc reaches a node over one class.
func (n *Node) openStream(class transport.Class) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, id string) (net.Conn, error) {
		addr, ok := n.resolve(id)
		if !ok {
			return nil, fmt.Errorf("no address is known for node %s", id)
		}
		conn, err := n.mux.Dial(ctx, addr, class, id)
		if err != nil {
			return nil, err
		}
		return conn.OpenKind(ctx, kindRPC)
	}
}

// resolve gives the newest address known for a node: gossip hears of a move
// first, the book survives a restart. After a move of all nodes at once the
// state, once it is back, still has every old address; who is at a configured
// one was seen later than that.
func (n *Node) resolve(id string) (string, bool) {
	m := n.members.Load()
	if m != nil && m.Alive(id) {
		if addr, ok := m.Resolve(id); ok {
			return addr, true
		}
	}
	if addr, ok := n.book.whereabouts(id); ok {
		return addr, true
	}
	if m != nil {
		if addr, ok := m.Resolve(id); ok {
			return addr, true
		}
	}
	if v, ok := n.state.Node(fsm.NodeID(id)); ok && v.Addr != "" {
		return v.Addr, true
	}
	return n.book.get(id)
}

// leaderError puts consensus's errors into the form that peers understand.
func (n *Node) leaderError(err error) error {
	var nl *consensus.NotLeaderError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &nl):
		info := n.group.Leader()
		e := rpc.Errorf(rpc.CodeNotLeader, "node %s does not lead", n.id)
		if !info.Self {
			e.Leader, e.LeaderAddr = info.ID, info.Addr
		}
		return e
	case errors.Is(err, consensus.ErrUnknownOutcome):
		return rpc.Errorf(rpc.CodeUnknown, "%v", err)
	case errors.Is(err, consensus.ErrOverloaded):
		return rpc.Errorf(rpc.CodeOverloaded, "%v", err)
	case errors.Is(err, consensus.ErrUnsafe):
		return rpc.Errorf(rpc.CodeInvalid, "%v", err)
	case errors.Is(err, errUnknownNode):
		return rpc.Errorf(rpc.CodeNotFound, "%v", err)
	default:
		return rpc.Errorf(rpc.CodeUnavailable, "%v", err)
	}
}

// transferHere hands this leader's office over. What keeps it from that is a
// state of the cluster, not a missing leader.
func (n *Node) transferHere(ctx context.Context) error {
	err := n.group.TransferLeadership(ctx)
	var notLeader *consensus.NotLeaderError
	if err == nil || errors.As(err, &notLeader) {
		return n.leaderError(err)
	}
	return rpc.Errorf(rpc.CodeInvalid, "%v", err)
}

func (n *Node) answerRegister(ctx context.Context, peer string, body []byte) (any, error) {
	var d fsm.Node
	if err := rpc.Decode(body, &d); err != nil {
		return nil, rpc.Errorf(rpc.CodeInvalid, "registration of node %s: %v", peer, err)
	}
	if string(d.ID) != peer {
		return nil, rpc.Errorf(rpc.CodeForbidden, "node %s registers as %s", peer, d.ID)
	}
	if !n.group.Leader().Self {
		return nil, n.leaderError(&consensus.NotLeaderError{})
	}
	return nil, n.registerHere(ctx, d)
}

func (n *Node) answerRemove(ctx context.Context, peer string, body []byte) (any, error) {
	var id string
	if err := rpc.Decode(body, &id); err != nil {
		return nil, rpc.Errorf(rpc.CodeInvalid, "removal asked by node %s: %v", peer, err)
	}
	if !n.group.Leader().Self {
		return nil, n.leaderError(&consensus.NotLeaderError{})
	}
	// The connection of a node that asks for its own removal ends before that
	// is complete, and with it ctx.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), removalPatience)
	defer cancel()
	return nil, n.leaderError(n.removeMember(whole, id))
}

// removalPatience bounds what goes on after a removed node's connection ended.
const removalPatience = 10 * time.Second

// certificateLife is long enough to survive a holiday with a stopped node,
// short enough that a forgotten one ends. Nodes renew at two thirds of it.
const certificateLife = 90 * 24 * time.Hour

// sign makes a certificate for the holder of a signing request's key.
func (n *Node) sign(csr []byte, names []string) ([]byte, error) {
	view, ok := n.state.Cluster()
	if !ok {
		return nil, rpc.Errorf(rpc.CodeUnavailable, "node %s does not hold the cluster's key yet; try another node", n.id)
	}
	ca, err := pki.LoadCA(view.CACert, view.CAKey)
	if err != nil {
		return nil, fmt.Errorf("load the cluster's key: %w", err)
	}
	dns, ips := splitNames(names)
	return ca.SignNode(csr, pki.SignRequest{ClusterID: view.ClusterID, Now: n.now(), TTL: certificateLife, DNSNames: dns, IPs: ips})
}

// splitNames sorts host names from IP addresses.
func splitNames(names []string) (dns []string, ips []net.IP) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else if name != "" {
			dns = append(dns, name)
		}
	}
	return dns, ips
}

type renewRequest struct {
	CSR   []byte   `cbor:"1,keyasint"`
	Names []string `cbor:"2,keyasint,omitempty"`
}

type renewAnswer struct {
	Cert []byte `cbor:"1,keyasint"`
}

func (n *Node) answerRenew(_ context.Context, peer string, body []byte) (any, error) {
	var q renewRequest
	if err := rpc.Decode(body, &q); err != nil {
		return nil, rpc.Errorf(rpc.CodeInvalid, "renewal for node %s: %v", peer, err)
	}
	der, err := n.sign(q.CSR, q.Names)
	if err != nil {
		return nil, err
	}
	// The key in the request must be the peer's own: a node may not get a
	// certificate for another identity.
	if id, err := certNode(der); err != nil || id != peer {
		return nil, rpc.Errorf(rpc.CodeForbidden, "node %s asked for the certificate of node %s", peer, id)
	}
	return renewAnswer{der}, nil
}
