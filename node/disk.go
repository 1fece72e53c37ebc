package node

import (
	"fmt"
	"time"
)

// followerStall is how long a follower waits for one write of its log. It does
// no harm meanwhile, as long as others acknowledge; and nodes whose disks are
// one slow device would all end at the leader's limit, and lose their majority
// until somebody starts them again. Longer than any pause of a disk that works,
// and short enough that a voter with a dead one is noticed.
const followerStall = 30 * time.Second

// diskStalls hears of a write of the log that takes too long, again and again
// while it does, and says when that was enough.
func (n *Node) diskStalls(op string, elapsed time.Duration) (enough bool) {
	limit := time.Duration(n.cfg.StallLimit)
	if !n.leads() && elapsed < followerStall {
		if elapsed <= limit+limit/8 { // the first time
			n.log.Warn("the disk does not finish one write of the log: this node is not ready until it does, and ends if it leads", "write", op, "elapsed", elapsed, "ends_after", followerStall)
		}
		return false
	}
	n.abandon(fmt.Errorf("the disk has not finished one %s of the log in %v: this node gives up its place so that the others go on; check the disk, then start it again", op, elapsed.Round(time.Millisecond)))
	return true
}

// stalled reports whether a write of the log takes too long just now.
func (n *Node) stalled() bool {
	return n.store.LongestWrite() > time.Duration(n.cfg.StallLimit)
}

// leads reports whether raft takes this node for the leader, in office or not.
func (n *Node) leads() bool {
	select {
	case <-n.grouped:
		return n.group.Leader().Self
	default:
		return false
	}
}

// abandon gives up this node's office because its disk cannot be trusted.
func (n *Node) abandon(err error) {
	select {
	case <-n.grouped:
		n.group.Abandon(err)
	default:
	}
	n.fail(err)
}
