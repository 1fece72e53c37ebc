package node

import (
	"time"

	"holdfast/consensus"
	"holdfast/transport"
	"holdfast/transport/evidence"
)

func (n *Node) leaderChanged(prober *evidence.Prober, l consensus.LeaderInfo) {
	n.log.Info("leader changed", "leader", l.ID, "addr", l.Addr, "term", l.Term)
	n.forward.LeaderChanged()
	n.worker.LeaderChanged()
	if l.ID == "" || l.Self {
		prober.Watch("", "")
		return
	}
	addr := l.Addr
	if a, ok := n.resolve(l.ID); ok {
		addr = a
	}
	prober.Watch(l.ID, addr)
}

// evidence passes on that a peer's process is gone.
func (n *Node) evidence(peer string, kind transport.Evidence) {
	select {
	case <-n.grouped:
	default:
		return // before the group is open nobody leads
	}
	switch kind {
	case transport.EvidenceRefused:
		n.group.Evidence(peer, consensus.KindPortUnreachable)
	case transport.EvidenceClosed:
		n.group.Evidence(peer, consensus.KindConnectionClosed)
	case transport.EvidenceReset:
		n.group.Evidence(peer, consensus.KindStatelessReset)
	}
}

// busySpan is how long after the last entry somebody is taken to wait for the
// next one.
const busySpan = 250 * time.Millisecond

// busyWhile says whether entries are being applied. One goroutine calls it.
func busyWhile(applied func() uint64, now func() time.Time) func() bool {
	var last uint64
	var at time.Time
	return func() bool {
		if i := applied(); i != last {
			last, at = i, now()
		}
		return now().Sub(at) < busySpan
	}
}
