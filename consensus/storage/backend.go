package storage

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Backend is the bottom of the stack: a durable log and key-value store. Every
// write is on the disk when it returns. It sees only sealed entries (Index,
// Term, Type and Data; the other fields of raft.Log are inside Data) and may
// keep none of the slices it is given. Missing entries are raft.ErrLogNotFound,
// missing keys an error whose text is "not found" (both raft's contract).
type Backend interface {
	raft.LogStore
	raft.StableStore
	raft.MonotonicLogStore
	Close() error
}

// OpenBackend opens a backend on path, creating it where it is missing.
type OpenBackend func(path string) (Backend, error)

const (
	// boltLockTimeout: the folder's own lock is held by now, so a locked file
	// means a foreign tool (a bbolt shell), which the operator has to close.
	boltLockTimeout = time.Second
	// boltMmapBytes: growing the map stops all readers; this much address
	// space (not memory) lets a usual log never grow it.
	boltMmapBytes = 256 << 20
)

// OpenBolt opens raft-boltdb on path, fsync on.
func OpenBolt(path string) (Backend, error) { return openBolt(path, false) }

// openBolt without fsync is for tests that open thousands of damaged files.
func openBolt(path string, noSync bool) (b Backend, err error) {
	defer contain(&err)
	defer debug.SetPanicOnFault(faults())
	if err := checkPages(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s, err := raftboltdb.New(raftboltdb.Options{
		Path:   path,
		NoSync: noSync,
		BoltOptions: &bbolt.Options{
			Timeout:         boltLockTimeout,
			NoSync:          noSync,
			FreelistType:    bbolt.FreelistMapType, // the array one is linear in the pages that compaction frees
			InitialMmapSize: boltMmapBytes,
			// Otherwise every commit writes the list of all free pages. A log
			// that compaction has just cut has hundreds of KiB of it, which
			// makes an append two to four times slower. It is not
			// authenticated either: flipped, it hands out pages in use. The
			// cost is a walk over the file at open, see checkPages.
			NoFreelistSync: true,
		},
		MsgpackUseNewTimeFormat: true, // the old format depends on the time zone database
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &bolt{s: s}, nil
}

// bolt contains bbolt's panics: it asserts on damaged pages, and a page behind
// the end of a truncated file is a fault, not an error. A panic may leave
// bbolt's locks held, so that the database is not entered again, not even to
// close it: the file stays open and locked until the process ends, which it
// has to anyway.
type bolt struct {
	s      *raftboltdb.BoltStore
	broken atomic.Bool
}

// IsMonotonic is false, on purpose: this backend tolerates gaps, and saying so
// is what keeps raft 1.8 safe here.
//
// With true, raft deletes the whole log after every installed snapshot, also
// the entries behind it, which this node may have acknowledged and a leader
// counted as committed. And it keeps its in-memory last index, so that the next
// AppendEntries looks for an entry that is no longer there, is refused, and the
// same snapshot is installed again, for ever.
// With false, a matching tail is kept. What is left is a tail that conflicts
// with the snapshot (hashicorp/raft issue 697), which loops as well: see
// Store.DropTail.
func (b *bolt) IsMonotonic() bool { return false }

// enter runs fn, which calls the database, with its panics and page faults
// turned into errors.
func (b *bolt) enter(fn func() error) (err error) {
	if b.broken.Load() {
		return errInconsistent
	}
	defer func() {
		if errors.Is(err, errInconsistent) {
			b.broken.Store(true)
		}
	}()
	defer contain(&err)
	defer debug.SetPanicOnFault(faults())
	return fn()
}

// contain turns a panic into an error.
func contain(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", errInconsistent, r)
	}
}

var errInconsistent = errors.New("the database file is inconsistent")

// faults makes page faults of this goroutine panics instead of fatal errors,
// until the returned value is restored.
func faults() bool { return debug.SetPanicOnFault(true) }

func (b *bolt) FirstIndex() (i uint64, err error) {
	err = b.enter(func() (err error) { i, err = b.s.FirstIndex(); return err })
	return i, err
}

func (b *bolt) LastIndex() (i uint64, err error) {
	err = b.enter(func() (err error) { i, err = b.s.LastIndex(); return err })
	return i, err
}

func (b *bolt) GetLog(i uint64, l *raft.Log) error {
	return b.enter(func() error { return b.s.GetLog(i, l) })
}

func (b *bolt) StoreLog(l *raft.Log) error { return b.StoreLogs([]*raft.Log{l}) }

func (b *bolt) StoreLogs(ls []*raft.Log) error {
	return b.enter(func() error { return b.s.StoreLogs(ls) })
}

func (b *bolt) DeleteRange(min, max uint64) error {
	return b.enter(func() error { return b.s.DeleteRange(min, max) })
}

func (b *bolt) Set(k, v []byte) error {
	return b.enter(func() error { return b.s.Set(k, v) })
}

func (b *bolt) Get(k []byte) (v []byte, err error) {
	err = b.enter(func() (err error) { v, err = b.s.Get(k); return err })
	return v, err
}

func (b *bolt) SetUint64(k []byte, v uint64) error {
	return b.enter(func() error { return b.s.SetUint64(k, v) })
}

func (b *bolt) GetUint64(k []byte) (v uint64, err error) {
	err = b.enter(func() (err error) { v, err = b.s.GetUint64(k); return err })
	return v, err
}

func (b *bolt) Close() error { return b.enter(b.s.Close) }
