package storage

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

func TestLogStoreBasics(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	ls := s.Logs()
	wantRange(t, ls, 0, 0)
	var l raft.Log
	if err := ls.GetLog(1, &l); err != raft.ErrLogNotFound { // raft compares with ==
		t.Fatalf("got %v", err)
	}
	must(t, ls.StoreLogs(entries(1, 10, 1)))
	must(t, ls.StoreLog(entry(11, 2)))
	must(t, ls.StoreLogs(nil))
	wantRange(t, ls, 1, 11)
	wantEntry(t, ls, entry(11, 2))

	must(t, ls.DeleteRange(1, 3)) // compaction
	wantRange(t, ls, 4, 11)
	must(t, ls.DeleteRange(9, 11)) // conflicting tail
	wantRange(t, ls, 4, 8)
	for _, i := range []uint64{3, 9, 11} {
		if err := ls.GetLog(i, &l); err != raft.ErrLogNotFound {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	must(t, ls.StoreLogs(entries(9, 12, 3)))
	must(t, ls.StoreLog(entry(20, 3))) // a gap, as after a restored snapshot
	wantRange(t, ls, 4, 20)

	s = reopen(t, s, o)
	ls = s.Logs()
	wantRange(t, ls, 4, 20)
	wantEntry(t, ls, entry(8, 1))
	wantEntry(t, ls, entry(10, 3))
	wantEntry(t, ls, entry(20, 3))
	if err := ls.GetLog(15, &l); err != raft.ErrLogNotFound {
		t.Fatalf("got %v", err)
	}
	must(t, ls.DeleteRange(4, 20))
	wantRange(t, ls, 0, 0)
	s = reopen(t, s, o)
	wantRange(t, s.Logs(), 0, 0)
	noCanary(t, o.Dir)
}

func TestEveryFieldSurvives(t *testing.T) {
	big := bytes.Repeat([]byte(canary), 40_000) // compresses well
	noise := randomBytes(t, 600<<10)            // does not
	cases := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogNoop},
		{Index: 2, Term: 1, Type: raft.LogConfiguration, Data: []byte("x"), Extensions: []byte(canary)},
		{Index: 3, Term: 9, Type: raft.LogBarrier, AppendedAt: standing},
		{Index: 4, Term: 9, Data: big, Extensions: randomBytes(t, 3000), AppendedAt: standing},
		{Index: 5, Term: 9, Data: noise},
		{Index: 6, Term: 1 << 60, Type: 250, Data: bytes.Repeat([]byte{0}, compressFrom)},
	}
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Logs().StoreLogs(cases))
	for _, c := range cases {
		wantEntry(t, s.Logs(), c) // from the ring
	}
	s = reopen(t, s, o)
	for _, c := range cases {
		wantEntry(t, s.Logs(), c) // from the disk
	}
	noCanary(t, o.Dir)
}

func TestTooLargeIsRefusedWithoutShutting(t *testing.T) {
	s := create(t, options(privateDir(t)))
	wantErr(t, s.Logs().StoreLog(&raft.Log{Index: 1, Data: make([]byte, maxEntry+1)}), ErrTooLarge)
	wantErr(t, s.Logs().StoreLog(&raft.Log{Index: 1, Data: make([]byte, maxEntry), Extensions: []byte{1}}), ErrTooLarge)
	wantErr(t, s.Stable().Set([]byte("k"), make([]byte, maxStable+1)), ErrTooLarge)
	must(t, s.Logs().StoreLog(&raft.Log{Index: 1, Data: make([]byte, maxEntry)}))
	must(t, s.Err())
}

// rawBolt runs fn on the bare database of a closed store.
func rawBolt(t *testing.T, dir string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, nil)
	must(t, err)
	must(t, db.Update(fn))
	must(t, db.Close())
}

// guards P6 and "a corrupted entry is never served": swapped, copied and
// relabelled entries do not authenticate, and the error names file and entry.
func TestMovedEntriesAreDetected(t *testing.T) {
	key := func(i byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, i} }
	relabel := func(fn func(*raft.Log)) func(*raft.Log) { return fn }
	cases := map[string]struct {
		move func(b *bbolt.Bucket) error
		raw  func(*raft.Log)
	}{
		"swapped in the database": {move: func(b *bbolt.Bucket) error {
			x, y := bytes.Clone(b.Get(key(2))), bytes.Clone(b.Get(key(3)))
			return errors.Join(b.Put(key(2), y), b.Put(key(3), x))
		}},
		"another index": {raw: relabel(func(l *raft.Log) { l.Data = nil; l.Index = 3 })},
		"another term":  {raw: relabel(func(l *raft.Log) { l.Term++ })},
		"another type":  {raw: relabel(func(l *raft.Log) { l.Type = raft.LogNoop })},
		"emptied":       {raw: relabel(func(l *raft.Log) { l.Data = nil })},
		"cut":           {raw: relabel(func(l *raft.Log) { l.Data = l.Data[:len(l.Data)-1] })},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(privateDir(t))
			var failed []error
			o.OnFailed = func(err error) { failed = append(failed, err) }
			s := create(t, o)
			must(t, s.Logs().StoreLogs(entries(1, 4, 7)))
			must(t, s.Close())
			if c.move != nil {
				rawBolt(t, o.Dir, func(tx *bbolt.Tx) error { return c.move(tx.Bucket([]byte("logs"))) })
			} else {
				b, err := raftboltdb.NewBoltStore(filepath.Join(o.Dir, logFile))
				must(t, err)
				var l raft.Log
				must(t, b.GetLog(2, &l))
				c.raw(&l)
				idx := l.Index
				l.Index = 2
				if idx == 3 { // entry 3's bytes in entry 2's place
					must(t, b.GetLog(3, &l))
					l.Index = 2
				}
				must(t, b.StoreLog(&l))
				must(t, b.Close())
			}
			s = mustOpen(t, o)
			var l raft.Log
			err := s.Logs().GetLog(2, &l)
			wantErr(t, err, ErrDamaged)
			var d *DamageError
			if !errors.As(err, &d) || d.Where != "entry 2" || d.File != filepath.Join(o.Dir, logFile) {
				t.Fatalf("got %v", err)
			}
			if l.Data != nil {
				t.Fatal("served")
			}
			if len(failed) != 1 || !NeedsRejoin(failed[0]) {
				t.Fatalf("OnFailed got %v", failed)
			}
			wantErr(t, s.Logs().StoreLog(entry(5, 7)), ErrDamaged) // shut
		})
	}
}
