package storage

import (
	"sync"

	"github.com/hashicorp/raft"
)

const (
	// defaultRingEntries: what replication to a follower in step ever asks for.
	defaultRingEntries = 4096
	// defaultRingBytes: group-committed entries reach 512 KiB, so that a bound
	// in number alone would allow 2 GiB.
	defaultRingBytes = 64 << 20
)

// ring keeps the newest entries, which are always contiguous: first, first+1,
// ... first+n-1. It holds only what the backend has made durable, and shares
// the slices that raft passed to StoreLogs, which nobody may change afterwards
// (raft's own LogCache relies on the same).
type ring struct {
	mu    sync.RWMutex
	slots []raft.Log // entry i lies at i % len(slots)
	first uint64
	n     uint64
	bytes int64
	max   int64
}

func newRing(entries int, maxBytes int64) *ring {
	return &ring{slots: make([]raft.Log, entries), max: maxBytes}
}

func size(l *raft.Log) int64 { return int64(len(l.Data) + len(l.Extensions)) }

func (r *ring) slot(i uint64) *raft.Log { return &r.slots[i%uint64(len(r.slots))] }

// put adds entries that are durable. An entry that does not follow the last
// one replaces (overwritten tail) or restarts (gap) what is there.
func (r *ring) put(ls []*raft.Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range ls {
		if end := r.first + r.n; r.n > 0 && l.Index != end {
			if l.Index >= r.first && l.Index < end {
				r.dropFrom(l.Index)
			} else {
				r.dropFrom(r.first)
			}
		}
		if r.n == 0 {
			r.first = l.Index
		}
		for r.n > 0 && (r.n == uint64(len(r.slots)) || r.bytes+size(l) > r.max) {
			r.dropFirst()
		}
		if size(l) > r.max {
			r.first, r.n = 0, 0
			continue
		}
		if r.n == 0 {
			r.first = l.Index
		}
		*r.slot(l.Index) = *l
		r.n++
		r.bytes += size(l)
	}
}

func (r *ring) dropFirst() {
	s := r.slot(r.first)
	r.bytes -= size(s)
	*s = raft.Log{} // let the data go
	r.first++
	r.n--
}

func (r *ring) dropFrom(i uint64) {
	for r.n > 0 && r.first+r.n > i {
		s := r.slot(r.first + r.n - 1)
		r.bytes -= size(s)
		*s = raft.Log{}
		r.n--
	}
}

func (r *ring) get(i uint64, l *raft.Log) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.n == 0 || i < r.first || i >= r.first+r.n {
		return false
	}
	*l = *r.slot(i)
	return true
}

// drop forgets min..max, and what comes before or after them where the rest
// would not be contiguous.
func (r *ring) drop(min, max uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 || max < r.first || min >= r.first+r.n {
		return
	}
	if max >= r.first+r.n-1 {
		r.dropFrom(min)
		return
	}
	for r.n > 0 && r.first <= max {
		r.dropFirst()
	}
}
