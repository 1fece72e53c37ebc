package storage

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Conflict is a log whose entry at a snapshot's index has another term.
type Conflict struct {
	Index     uint64 // of the newest snapshot
	Term      uint64 // of the newest snapshot
	EntryTerm uint64 // of the log's entry at Index
}

// TailConflict looks for the state in which raft 1.8 installs one snapshot for
// ever (hashicorp/raft issue 697), and returns nil where all is well.
//
// A follower with an uncommitted tail gets a snapshot up to index K of terms
// that won. The library's installSnapshot does not discard the log although
// its entry at K conflicts (rule 7 of the paper's figure 13): compaction keeps
// the trailing entries. The next AppendEntries names K as the previous entry,
// the follower compares with its own, old entry K and refuses; the leader has
// no older entries and sends the snapshot again.
func (s *Store) TailConflict() (*Conflict, error) {
	list, err := s.snaps.List()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var l raft.Log
	k := list[0]
	if err := s.logs.GetLog(k.Index, &l); errors.Is(err, raft.ErrLogNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if l.Term == k.Term {
		return nil, nil
	}
	return &Conflict{Index: k.Index, Term: k.Term, EntryTerm: l.Term}, nil
}

// DropTail deletes the log from index from (0: all of it) to its end, and only
// where that is provably safe: a TailConflict shows that the entries at and
// behind the snapshot never were committed (logs that agree on an entry agree
// on all before it), and those before it are in the snapshot. Otherwise it
// refuses with ErrTailInUse.
//
// raft must be shut down: it keeps the last index in memory, and would go on
// refusing. Open does the same repair by itself, so a node that counts repeated
// installs of one index may as well close and reopen its store.
func (s *Store) DropTail(from uint64) error {
	c, err := s.TailConflict()
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("drop the log from entry %d: %w: it does not conflict with the newest snapshot", from, ErrTailInUse)
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil || from > last {
		return err
	}
	return s.logs.DeleteRange(max(from, first), last)
}
