package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// ErrCrashed is what handles of a Memory answer after its Crash.
var ErrCrashed = errors.New("the machine has crashed")

// Memory is a node's disk in memory, for tests and simulation. It keeps two
// images: what was written, and what was synced. By default every write syncs,
// as the disk store does; a simulation of a lying disk turns that off with
// AutoSync and calls Sync itself. Nothing is encrypted. Safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	live     image
	synced   image
	lazy     bool
	crashed  bool
	writeErr error
}

var _ Stores = (*Memory)(nil)

type image struct {
	logs  map[uint64]raft.Log
	kv    map[string][]byte
	snaps []memSnapshot // oldest first
	seq   uint64
}

type memSnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

// clone is shallow where values are never changed in place.
func (i image) clone() image {
	return image{logs: maps.Clone(i.logs), kv: maps.Clone(i.kv), snaps: slices.Clone(i.snaps), seq: i.seq}
}

// NewMemory returns an empty disk.
func NewMemory() *Memory {
	i := image{logs: map[uint64]raft.Log{}, kv: map[string][]byte{}}
	return &Memory{live: i, synced: i.clone()}
}

// AutoSync sets whether every write is durable when it returns (the default).
// Turning it on syncs what was written so far.
func (m *Memory) AutoSync(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lazy && on {
		m.synced = m.live.clone()
	} else if !m.lazy && !on {
		m.synced = m.live.clone() // stops being maintained write by write
	}
	m.lazy = !on
}

// Sync makes everything written so far durable.
func (m *Memory) Sync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lazy && !m.crashed {
		m.synced = m.live.clone()
	}
}

// FailWrites makes every write fail with err (nil: no more).
func (m *Memory) FailWrites(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeErr = err
}

// Crash cuts the power: the returned disk holds what was synced, and every
// handle of the old one fails with ErrCrashed, so that goroutines of the dead
// node can neither read nor write the new one's state.
func (m *Memory) Crash() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := m.live
	if m.lazy {
		keep = m.synced
	}
	m.crashed = true
	m.live, m.synced = image{}, image{}
	return &Memory{live: keep, synced: keep.clone(), lazy: m.lazy}
}

// Logs, Stable and Snapshots hand out views of the one disk.
func (m *Memory) Logs() raft.LogStore           { return memLogs{m} }
func (m *Memory) Stable() raft.StableStore      { return memStable{m} }
func (m *Memory) Snapshots() raft.SnapshotStore { return memSnapshots{m} }

// Close does nothing; a clean stop loses nothing.
func (m *Memory) Close() error { return nil }

func (m *Memory) read(fn func(*image) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return ErrCrashed
	}
	return fn(&m.live)
}

func (m *Memory) write(fn func(*image)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return ErrCrashed
	}
	if m.writeErr != nil {
		return m.writeErr
	}
	fn(&m.live)
	return nil
}

type memLogs struct{ m *Memory }

// IsMonotonic is false for the reasons given at the disk store's.
func (memLogs) IsMonotonic() bool { return false }

func (l memLogs) bounds() (first, last uint64, err error) {
	err = l.m.read(func(i *image) error {
		for k := range i.logs {
			if first == 0 || k < first {
				first = k
			}
			last = max(last, k)
		}
		return nil
	})
	return first, last, err
}

func (l memLogs) FirstIndex() (uint64, error) { f, _, err := l.bounds(); return f, err }
func (l memLogs) LastIndex() (uint64, error)  { _, n, err := l.bounds(); return n, err }

func (l memLogs) GetLog(k uint64, out *raft.Log) error {
	return l.m.read(func(i *image) error {
		e, ok := i.logs[k]
		if !ok {
			return raft.ErrLogNotFound
		}
		*out = e
		return nil
	})
}

func (l memLogs) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l memLogs) StoreLogs(es []*raft.Log) error {
	return l.m.write(func(i *image) {
		for _, e := range es {
			i.logs[e.Index] = *e
		}
	})
}

func (l memLogs) DeleteRange(min, max uint64) error {
	return l.m.write(func(i *image) {
		maps.DeleteFunc(i.logs, func(k uint64, _ raft.Log) bool { return k >= min && k <= max })
	})
}

type memStable struct{ m *Memory }

func (s memStable) Set(k, v []byte) error {
	return s.m.write(func(i *image) { i.kv[string(k)] = bytes.Clone(v) })
}

func (s memStable) Get(k []byte) (v []byte, err error) {
	err = s.m.read(func(i *image) error {
		b, ok := i.kv[string(k)]
		if !ok {
			return ErrKeyNotFound
		}
		v = bytes.Clone(b)
		return nil
	})
	return v, err
}

func (s memStable) SetUint64(k []byte, v uint64) error {
	return s.Set(k, binary.BigEndian.AppendUint64(nil, v))
}

func (s memStable) GetUint64(k []byte) (uint64, error) {
	b, err := s.Get(k)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, errors.New("stable store: not a number")
	}
	return binary.BigEndian.Uint64(b), nil
}
