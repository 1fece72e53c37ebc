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
// run. Only an entry of another term at the snapshot's index proves a conflict:
// it was never committed, and neither was anything after it. Without that
// proof the entries may be committed and stay; the restart then has to do.
func dropTail(logs raft.LogStore, index, term uint64) (dropped bool, err error) {
	var e raft.Log
	switch err := logs.GetLog(index, &e); {
	case errors.Is(err, raft.ErrLogNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("consensus: read entry %d: %w", index, err)
	case e.Term == term:
		return false, nil
	}
	first, err := logs.FirstIndex()
	if err != nil {
		return false, fmt.Errorf("consensus: read the log's first index: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("consensus: read the log's last index: %w", err)
	}
	// The whole log goes: what is before the conflict is covered by the
	// snapshot, and a monotonic store deletes no suffix alone with a hole.
	if err := logs.DeleteRange(first, last); err != nil {
		return false, fmt.Errorf("consensus: drop the conflicting log %d to %d: %w", first, last, err)
	}
	return true, nil
}
