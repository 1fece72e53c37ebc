package consensus

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// installs counts the snapshots that a leader sends to this node, and ends the
// library's loop.
//
// The loop: a follower holds log entries past the snapshot's index that
// conflict with it. Installing the snapshot neither removes them nor forgets
// their index (a monotonic store is emptied, but raft's memory of the last
// index is not), so the leader's next AppendEntries finds no matching previous
// entry, the leader goes back until its log ends, and sends the same snapshot
// again, for ever. Only a restart over a log without that tail ends it.
//
// So: when one snapshot was installed maxInstalls times and comes again, it is
// refused, the conflicting tail is dropped with raft stopped, and the node is
// told to restart. Transfers that broke off do not count.
type installs struct {
	metrics *Metrics
	repair  func(index, term uint64) // called once, on its own goroutine

	mu          sync.Mutex
	index, term uint64 // of the last snapshot, guarded by mu
	count       int    // how often it was installed, guarded by mu
	repairing   bool   // guarded by mu
}

// maxInstalls of one snapshot are allowed: a leader may send one again when
// the answer was lost.
const maxInstalls = 3

var errRepairing = errors.New("consensus: this node is repairing its log and will restart")

// arrived is called before raft sees the snapshot, on the link's pump.
func (in *installs) arrived(index, term uint64) error {
	in.metrics.installs.Inc()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.repairing {
		return errRepairing
	}
	if index != in.index || term != in.term {
		in.index, in.term, in.count = index, term, 0
		return nil
	}
	in.metrics.installRepeats.Inc()
	if in.count < maxInstalls {
		return nil
	}
	in.repairing = true
	go in.repair(index, term)
	return errRepairing
}

// restored is called when the state machine has taken a snapshot.
func (in *installs) restored() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.count++
}

// dropTail removes the entries that conflict with a snapshot. Raft must not
// run. It deletes only what is proven stale, because anything else may be
// committed and this node counted for it: an entry of another term at the
// snapshot's index, or one after it of an older term (terms never fall along a
// log), was never committed, and neither was anything after it. A tail without
// such a proof is an error.
func dropTail(logs raft.LogStore, index, term uint64) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("consensus: read the log's first index: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("consensus: read the log's last index: %w", err)
	}
	if last < index || last == 0 {
		return nil // a restart is all that is needed
	}
	at := max(first, index)
	var e raft.Log
	if err := logs.GetLog(at, &e); err != nil {
		return fmt.Errorf("consensus: read entry %d: %w", at, err)
	}
	if at == index && e.Term == term || at > index && e.Term >= term {
		return fmt.Errorf("%w: snapshot %d of term %d, entry %d of term %d", ErrTailUnproven, index, term, at, e.Term)
	}
	// The whole log goes: what is before the conflict is in the snapshot, and
	// a gap would be worse than nothing.
	if err := logs.DeleteRange(first, last); err != nil {
		return fmt.Errorf("consensus: drop the conflicting log %d to %d: %w", first, last, err)
	}
	return nil
}
