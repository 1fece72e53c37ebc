package fsm

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxSnapshots is how many snapshots may be held at once: raft's own and a
// few that operators download. Each keeps the old value of every task that
// changes before it has been written.
const MaxSnapshots = 4

// Errors of snapshots.
var (
	ErrTooManySnapshots = fmt.Errorf("%d snapshots are being written already: try again later", MaxSnapshots)
	ErrSnapshotUsed     = errors.New("the snapshot was already written or released")
)

// Snapshot is the state as it was at one index. Taking one copies nothing that
// grows with the number of tasks: it starts a new generation. From then on a
// task that changes for the first time leaves its old value here (see
// machine.touch), until the writer has passed its page.
type Snapshot struct {
	s   *State
	m   *machine // at the time; not the state's any more after a Restore
	err error

	gen      uint32
	meta     metaRecord
	nodes    []nodeRecord
	removed  []removedNode
	tokens   []*storedToken
	requests requestTable // without byID
	pages    []*taskPage  // the slice; the pages themselves are guarded

	// Guarded by s.mu: read and written by machine.touch under the write
	// lock, and by the one goroutine that writes the snapshot under the read
	// lock.
	nextPage uint64 // pages with lower numbers are written
	saved    map[uint64][]*task
	used     bool
}

// Snapshot takes a snapshot. It must be released. Errors, of a broken state or
// of too many snapshots, come from writing it.
func (s *State) Snapshot() *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.broken != nil:
		return &Snapshot{s: s, m: s.m, err: s.broken}
	case len(s.m.snaps) >= MaxSnapshots:
		return &Snapshot{s: s, m: s.m, err: ErrTooManySnapshots}
	}
	s.m.gen++
	snap := s.m.freeze(s)
	s.m.snaps = append(s.m.snaps, snap)
	return snap
}

// freeze captures everything but the tasks.
func (m *machine) freeze(s *State) *Snapshot {
	snap := &Snapshot{
		s: s, m: m, gen: m.gen,
		meta:     m.meta(),
		nodes:    make([]nodeRecord, len(m.nodeOrder)),
		removed:  m.removed,
		tokens:   m.tokens,
		requests: requestTable{low: m.requests.low, high: m.requests.high, pages: m.requests.pages},
		pages:    m.tasks.pages,
		saved:    map[uint64][]*task{},
	}
	for i, n := range m.nodeOrder {
		snap.nodes[i] = n.record()
	}
	return snap
}

func (m *machine) meta() metaRecord {
	return metaRecord{
		Index: m.index, Now: m.now, LastTask: m.lastTask, Accepted: m.accepted, FinishSeq: m.finishSeq,
		Totals: m.totals, Cluster: m.cluster,
	}
}

// keep stores the old value of a task. Called by machine.touch.
func (snap *Snapshot) keep(t *task) {
	page := uint64(t.id) >> pageBits
	snap.saved[page] = append(snap.saved[page], t)
}

// Index returns the index of the last entry in the snapshot.
func (snap *Snapshot) Index() uint64 { return snap.meta.Index }

// WriteTo writes the full snapshot, once. It holds the state's lock only to
// copy a page of tasks at a time, so Apply may run beside it.
func (snap *Snapshot) WriteTo(w io.Writer) (int64, error) { return snap.write(w, kindFull) }

// WritePortable writes, once, what another cluster can take over: tasks, API
// tokens and settings, and neither identity, nodes, join tokens nor
// remembered requests. Running tasks are queued in it.
func (snap *Snapshot) WritePortable(w io.Writer) (int64, error) { return snap.write(w, kindPortable) }

func (snap *Snapshot) write(w io.Writer, kind byte) (int64, error) {
	if err := snap.use(); err != nil {
		return 0, fmt.Errorf("write snapshot: %w", err)
	}
	f := newFrameWriter(w, kind)
	snap.records(f, kind == kindPortable, snap.s.mu.RLock, snap.s.mu.RUnlock)
	if _, err := f.close(); err != nil {
		return f.n, fmt.Errorf("write snapshot: %w", err)
	}
	return f.n, nil
}

func (snap *Snapshot) use() error {
	if snap.err != nil {
		return snap.err
	}
	snap.s.mu.Lock()
	defer snap.s.mu.Unlock()
	if snap.used {
		return ErrSnapshotUsed
	}
	snap.used = true
	return nil
}

// Release ends the snapshot. It may be called more than once, but not while
// the snapshot is being written.
func (snap *Snapshot) Release() {
	snap.s.mu.Lock()
	defer snap.s.mu.Unlock()
	snap.used = true
	snap.saved = nil
	snap.m.snaps = slices.DeleteFunc(snap.m.snaps, func(o *Snapshot) bool { return o == snap })
}

// records writes all sections. The lock functions guard the tasks.
func (snap *Snapshot) records(f *frameWriter, portable bool, lock, unlock func()) {
	meta := snap.meta
	if portable {
		meta.Cluster = cluster{Settings: meta.Cluster.Settings, Level: meta.Cluster.Level}
	}
	f.value(sectionMeta, meta)
	if !portable {
		for i := range snap.nodes {
			f.value(sectionNode, snap.nodes[i])
		}
		for i := range snap.removed {
			f.value(sectionRemoved, snap.removed[i])
		}
	}
	for _, t := range snap.tokens {
		if !portable || t.Role != RoleNode {
			f.value(sectionToken, t)
		}
	}
	snap.tasks(f, portable, lock, unlock)
	if !portable {
		var buf []byte
		for seq := snap.requests.low; seq < snap.requests.high; seq++ {
			buf = appendRemembered(buf[:0], snap.requests.at(seq))
			f.record(sectionRequest, buf)
		}
	}
}

// tasks writes the tasks page by page.
func (snap *Snapshot) tasks(f *frameWriter, portable bool, lock, unlock func()) {
	var (
		slots   [pageSize]task
		present [pageSize]bool
		buf     []byte
	)
	for _, p := range snap.pages {
		if f.err != nil {
			return
		}
		present = [pageSize]bool{}
		lock()
		for i := 0; p.n > 0 && i < pageSize; i++ {
			if t := p.slots[i]; t != nil && t.gen < snap.gen && t.id <= snap.meta.LastTask {
				slots[i], present[i] = *t, true
			}
		}
		for _, t := range snap.saved[p.number] {
			slots[t.id%pageSize], present[t.id%pageSize] = *t, true
		}
		delete(snap.saved, p.number)
		snap.nextPage = p.number + 1
		unlock()
		for i := range slots {
			if !present[i] {
				continue
			}
			if portable {
				slots[i].makePortable(snap.meta.Now)
			}
			buf = appendTask(buf[:0], &slots[i])
			f.record(sectionTask, buf)
		}
	}
}

// Hash returns the SHA-256 of the whole replicated state, equal on every
// replica that has applied the same log. It encodes everything while it holds
// the read lock: about a second per million tasks, for tests and inspection.
func (s *State) Hash() [32]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	snap := s.m.freeze(s)
	snap.gen = s.m.gen + 1 // every task is older
	f := newFrameWriter(io.Discard, kindFull)
	snap.records(f, false, func() {}, func() {})
	sum, _ := f.close() // io.Discard does not fail, and all types encode
	return sum
}
