package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	bolterrors "go.etcd.io/bbolt/errors"
)

// What lies in the data folder.
const (
	lockFile     = "lock"
	identityFile = "identity"
	logFile      = "log.db"
	markFile     = "log.tail"
	snapshotsDir = "snapshots"

	// bindingKey ties log.db to the identity: its sealed value is the store ID,
	// so that an emptied or foreign log is noticed even when it is well-formed.
	bindingKey = "holdfast/store"
)

// Stores is what raft needs from a node's disk; *Store and *Memory have it.
type Stores interface {
	Logs() raft.LogStore
	Stable() raft.StableStore
	Snapshots() raft.SnapshotStore
	Close() error
}

// Store is one node's raft state on disk. Safe for concurrent use as far as
// raft needs it (see the package's comment).
type Store struct {
	id     Identity
	log    hclog.Logger
	lock   *os.File
	low    Backend
	dog    *watchdog
	logs   *logStore
	stable *stableStore
	snaps  *snapshotStore

	closing sync.Once
	closed  error
}

var _ Stores = (*Store)(nil)

// Create makes a new, empty store in o.Dir and opens it. It never touches an
// existing one (ErrStoreExists). The identity file is written last: without it
// the folder holds no store, so a crash on the way is repaired by calling
// Create again.
func Create(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	return locked(o.Dir, func(lock *os.File) (*Store, error) {
		if ok, err := exists(filepath.Join(o.Dir, identityFile)); err != nil {
			return nil, err
		} else if ok {
			return nil, fmt.Errorf("%s: %w", o.Dir, ErrStoreExists)
		}
		if err := o.clearUnfinished(); err != nil {
			return nil, err
		}
		id, err := newIdentity(o.NodeID, o.ClusterID, o.Now(), o.Rand)
		if err != nil {
			return nil, err
		}
		s, err := open(o, id, lock)
		if err != nil {
			return nil, err
		}
		err = s.stable.Set([]byte(bindingKey), []byte(id.StoreID))
		if err == nil {
			var b []byte
			if b, err = id.encode(o.Key); err == nil {
				err = writeFile(filepath.Join(o.Dir, identityFile), b, true)
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("create a store in %s: %w", o.Dir, err), s.closeFiles())
		}
		return s, nil
	})
}

// clearUnfinished removes what a Create that was cut short left. A log that
// already has entries was once a store: its lost identity is not guessed.
func (o *Options) clearUnfinished() error {
	path := filepath.Join(o.Dir, logFile)
	ok, err := exists(path)
	if err != nil || !ok {
		return err
	}
	b, err := o.Backend(path)
	if err != nil {
		return &DamageError{File: path, Where: "log without an identity file", Err: err}
	}
	last, err := b.LastIndex()
	if err = errors.Join(err, b.Close()); err != nil || last > 0 {
		return &DamageError{File: path, Where: "log without an identity file", Err: errors.Join(err, errors.New("it has entries; move the folder away to start anew"))}
	}
	return errors.Join(os.Remove(path), os.RemoveAll(journalPath(path)), os.RemoveAll(filepath.Join(o.Dir, markFile)))
}

// Open opens the store in o.Dir. Errors: ErrNoStore (also where only the log is
// gone), ErrIdentityMismatch, ErrDamaged, ErrInUse, ErrPermissions, ErrFormat;
// see NeedsRejoin.
func Open(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if ok, err := exists(filepath.Join(o.Dir, identityFile)); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%s: %w: the identity file is missing", o.Dir, ErrNoStore)
	}
	return locked(o.Dir, func(lock *os.File) (*Store, error) {
		id, err := ReadIdentity(o.Dir, o.Key)
		if err != nil {
			return nil, err
		}
		if err := id.claims(o.NodeID, o.ClusterID); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Dir, err)
		}
		// The backend would make a new, empty log without a word.
		path := filepath.Join(o.Dir, logFile)
		if st, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || (err == nil && st.Size() == 0) {
			return nil, fmt.Errorf("%s: %w: its log is gone, and with it what this node promised", path, ErrNoStore)
		} else if err != nil {
			return nil, err
		}
		if err := checkPrivate(path); err != nil {
			return nil, err
		}
		if err := checkPrivate(journalPath(path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err // that it is missing is the backend's to judge
		}
		s, err := open(o, id, lock)
		if err != nil {
			return nil, err
		}
		if err := s.verifyOpened(); err != nil {
			return nil, errors.Join(err, s.closeFiles())
		}
		return s, nil
	})
}

// locked runs fn with the folder checked and locked; on failure the lock is
// given back.
func locked(dir string, fn func(*os.File) (*Store, error)) (*Store, error) {
	if err := checkPrivate(dir); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := fn(lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func open(o Options, id Identity, lock *os.File) (*Store, error) {
	sid, err := id.store()
	if err != nil {
		return nil, err
	}
	s := &Store{id: id, log: o.Logger, lock: lock, dog: newWatchdog(&o)}
	if s.snaps, err = openSnapshots(&o, sid); err != nil {
		return nil, err
	}
	path := filepath.Join(o.Dir, logFile)
	if s.low, err = o.Backend(path); err != nil {
		if isInconsistent(err) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
			err = &DamageError{File: path, Where: "database", Err: err}
		}
		return nil, err
	}
	mark, err := openMark(filepath.Join(o.Dir, markFile), o.Key.Subkey(labelMark), sid)
	if err != nil {
		return nil, errors.Join(err, s.low.Close())
	}
	aead, err := newGCM(o.Key.Subkey(labelStable))
	if err != nil {
		return nil, errors.Join(err, mark.close(), s.low.Close())
	}
	s.stable = &stableStore{path: path, low: s.low, dog: s.dog, aead: aead, store: sid, rand: o.Rand}
	s.logs = &logStore{
		path: path, low: s.low, dog: s.dog, mark: mark,
		ring: newRing(o.RingEntries, o.RingBytes),
		enc:  newCodec(o.Key.Subkey(labelLog), sid, o.Rand),
	}
	return s, nil
}

// isInconsistent tells a damaged database from a system that refuses to open
// it. bbolt has no type for all of the former ("file size too small"), so what
// is neither the system's error nor a foreign lock is taken for damage.
func isInconsistent(err error) bool {
	var errno syscall.Errno
	return !errors.As(err, &errno) && !errors.Is(err, bolterrors.ErrTimeout)
}

// verifyOpened checks that the log is this store's, that it has not lost its
// end, and drops a tail that a restart would loop on.
func (s *Store) verifyOpened() error {
	v, err := s.stable.Get([]byte(bindingKey))
	if errors.Is(err, ErrKeyNotFound) {
		return fmt.Errorf("%s: %w: the log is empty or another store's", s.logs.path, ErrNoStore)
	}
	if err != nil {
		return err
	}
	if string(v) != s.id.StoreID {
		return fmt.Errorf("%s: %w: the log is another store's", s.logs.path, ErrNoStore)
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	switch marked, err := s.logs.mark.last(); {
	case errors.Is(err, errNoMark):
		s.log.Warn("no tail mark: a lost end of the log would go unnoticed this time", "file", markFile)
		if err := s.logs.mark.raise(last); err != nil {
			return err
		}
	case err != nil:
		return err
	case marked > last:
		return &DamageError{File: s.logs.path, Where: fmt.Sprintf("entries %d to %d", last+1, marked), Err: errors.New("written once, now missing")}
	}
	c, err := s.TailConflict()
	if err != nil || c == nil {
		return err
	}
	s.log.Warn("dropping a log tail that conflicts with the installed snapshot", "snapshot", c.Index, "snapshot-term", c.Term, "entry-term", c.EntryTerm)
	return s.DropTail(0)
}

// Identity returns whose store this is.
func (s *Store) Identity() Identity { return s.id }

// Logs returns the log store; it also is a raft.MonotonicLogStore.
func (s *Store) Logs() raft.LogStore { return s.logs }

// Stable returns the store of term and vote.
func (s *Store) Stable() raft.StableStore { return s.stable }

// Snapshots returns the snapshot store.
func (s *Store) Snapshots() raft.SnapshotStore { return s.snaps }

// DamagedSnapshots returns an error for every snapshot that List skips; their
// files stay where they are.
func (s *Store) DamagedSnapshots() ([]error, error) { return s.snaps.Damaged() }

// LongestWrite returns how long the oldest write in flight has taken so far.
func (s *Store) LongestWrite() time.Duration { return s.dog.longest() }

// Err returns the failure that shut the store, or nil.
func (s *Store) Err() error { return s.dog.err() }

// Close waits for the write in flight, closes the files and gives the folder
// back. raft must have been shut down before; later calls fail with ErrClosed.
func (s *Store) Close() error {
	s.closing.Do(func() {
		err := error(ErrClosed)
		s.dog.latched.CompareAndSwap(nil, &err)
		s.closed = errors.Join(s.closeFiles(), s.lock.Close())
	})
	return s.closed
}

func (s *Store) closeFiles() error {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	return errors.Join(s.low.Close(), s.logs.mark.close())
}
