package storage

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// arenaKeep: a buffer that one huge append has grown beyond this is let go.
const arenaKeep = 4 << 20

// logStore is raft's view of the log: ring, watchdog and sealing in front of a
// backend.
type logStore struct {
	path string
	low  Backend
	dog  *watchdog
	ring *ring
	mark *tailMark
	enc  *codec

	mu    sync.Mutex // serialises writers; guards what follows
	arena []byte
	logs  []raft.Log
	ptrs  []*raft.Log
}

var _ raft.MonotonicLogStore = (*logStore)(nil)

// IsMonotonic passes on what the backend can bear.
func (s *logStore) IsMonotonic() bool { return s.low.IsMonotonic() }

func (s *logStore) damaged(where string, err error) error {
	return s.dog.fail(&DamageError{File: s.path, Where: where, Err: err})
}

func (s *logStore) FirstIndex() (uint64, error) { return s.index(s.low.FirstIndex) }
func (s *logStore) LastIndex() (uint64, error)  { return s.index(s.low.LastIndex) }

func (s *logStore) index(f func() (uint64, error)) (uint64, error) {
	if err := s.dog.err(); err != nil {
		return 0, err
	}
	i, err := f()
	if err != nil {
		return 0, s.damaged("index", err)
	}
	return i, nil
}

// GetLog fills l. The slices in l are shared; the caller must not change them.
// Answers raft.ErrLogNotFound unwrapped: raft compares with ==.
func (s *logStore) GetLog(i uint64, l *raft.Log) error {
	if s.ring.get(i, l) {
		return nil
	}
	if err := s.dog.err(); err != nil {
		return err
	}
	return s.read(i, l)
}

func (s *logStore) read(i uint64, l *raft.Log) error {
	var raw raft.Log
	if err := s.low.GetLog(i, &raw); errors.Is(err, raft.ErrLogNotFound) {
		return raft.ErrLogNotFound
	} else if err != nil {
		return s.damaged(fmt.Sprintf("entry %d", i), err)
	}
	if raw.Index != i {
		return s.damaged(fmt.Sprintf("entry %d", i), fmt.Errorf("entry %d lies in its place", raw.Index))
	}
	if err := s.enc.open(raw.Data, &raw); err != nil {
		return s.damaged(fmt.Sprintf("entry %d", i), err)
	}
	*l = raw
	return nil
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs returns when all entries are on the disk. It keeps their slices
// (in the ring); nobody may change them afterwards. An entry beyond maxEntry
// is refused with ErrTooLarge and shuts nothing.
func (s *logStore) StoreLogs(ls []*raft.Log) error {
	if err := s.dog.err(); err != nil {
		return err
	}
	if len(ls) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sealed, err := s.seal(ls)
	if err != nil {
		return err
	}
	err = s.dog.do("store logs", func() error {
		if err := s.low.StoreLogs(sealed); err != nil {
			return err
		}
		return s.mark.raise(ls[len(ls)-1].Index)
	})
	if err != nil {
		return err
	}
	s.ring.put(ls)
	return nil
}

// seal encrypts ls into one reused buffer. The backend copies what it keeps.
func (s *logStore) seal(ls []*raft.Log) ([]*raft.Log, error) {
	need := 0
	for _, l := range ls {
		need += sealedSize(l)
	}
	if cap(s.arena) < need || cap(s.arena) > max(need, arenaKeep) {
		s.arena = make([]byte, 0, need)
	}
	buf := s.arena[:0]
	s.logs, s.ptrs = s.logs[:0], s.ptrs[:0]
	for _, l := range ls {
		start := len(buf)
		var err error
		if buf, err = s.enc.seal(buf, l); err != nil {
			return nil, err
		}
		s.logs = append(s.logs, raft.Log{Index: l.Index, Term: l.Term, Type: l.Type, Data: buf[start:len(buf):len(buf)]})
	}
	for i := range s.logs {
		s.ptrs = append(s.ptrs, &s.logs[i])
	}
	return s.ptrs, nil
}

// DeleteRange deletes min..max, both included. While it deletes old entries,
// which can take as long as there are many, appends go on.
func (s *logStore) DeleteRange(min, max uint64) error {
	if err := s.dog.err(); err != nil {
		return err
	}
	s.mu.Lock()
	unlock := sync.OnceFunc(s.mu.Unlock)
	defer unlock()
	return s.dog.do("delete logs", func() error {
		last, err := s.low.LastIndex()
		if err != nil {
			return err
		}
		tail := max >= last
		if tail {
			// Before the deletion: a mark above the log means a lost tail.
			if err := s.mark.lower(0); err != nil {
				return err
			}
		}
		s.ring.drop(min, max)
		if !tail {
			unlock()
		}
		if err := s.low.DeleteRange(min, max); err != nil || !tail {
			return err
		}
		if last, err = s.low.LastIndex(); err != nil {
			return err
		}
		return s.mark.raise(last)
	})
}
