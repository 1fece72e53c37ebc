package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	"pgregory.net/rapid"
)

// Whatever bbolt makes of a log passes, at every moment: an error here would
// keep a sound node from starting.
func TestSoundPagesPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "pages")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a test's
		path := filepath.Join(dir, "log.db")
		open := func(noFreelist bool) *raftboltdb.BoltStore {
			s, err := raftboltdb.New(raftboltdb.Options{Path: path, NoSync: true, BoltOptions: &bbolt.Options{
				NoSync: true, NoFreelistSync: noFreelist, FreelistType: bbolt.FreelistMapType,
			}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open(true)
		next, first := uint64(1), uint64(1)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			var err error
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				var ls []*raft.Log
				size := rapid.SampledFrom([]int{0, 100, 1500, 5000}).Draw(t, "size")
				for range rapid.IntRange(1, 250).Draw(t, "entries") {
					ls = append(ls, &raft.Log{Index: next, Term: 1, Data: make([]byte, size)})
					next++
				}
				err = s.StoreLogs(ls)
			case 3:
				to := rapid.Uint64Range(first, max(first, next-1)).Draw(t, "to")
				err = s.DeleteRange(first, to)
				first = to + 1
				next = max(next, first)
			case 4:
				err = s.SetUint64([]byte(fmt.Sprint("key", rapid.IntRange(0, 300).Draw(t, "key"))), next)
			case 5:
				err = s.Close()
				s = open(rapid.Bool().Draw(t, "without the free list"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := checkPages(path); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A file that an earlier release wrote, with its free list, opens, and so does
// one without it in an earlier release.
func TestFreeListComesAndGoes(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Logs().StoreLogs(entries(1, 2000, 1)))
	must(t, s.Logs().DeleteRange(1, 1500))
	must(t, s.Close())
	old, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(o.Dir, logFile)})
	must(t, err)
	wantRange(t, old, 1501, 2000)
	must(t, old.Close())
	s = mustOpen(t, o)
	wantRange(t, s.Logs(), 1501, 2000)
	must(t, s.Logs().StoreLogs(entries(2001, 2100, 1)))
	for i := uint64(1501); i <= 2100; i++ {
		wantEntry(t, s.Logs(), entry(i, 1))
	}
}

// guards P1: bbolt's own walk, on a goroutine that nobody can guard, never
// meets what it would not survive. A flip that gets past the check, and whose
// walk panics, takes this test's process with it.
func TestDamagedPagesAreMetFirst(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Logs().StoreLogs(entries(1, 400, 1)))
	must(t, s.Close())
	path := filepath.Join(o.Dir, logFile)
	good, err := os.ReadFile(path)
	must(t, err)
	good = bytes.TrimRight(good, "\x00") // the rest is a hole
	st, err := os.Stat(path)
	must(t, err)
	// Headers and elements: what is between holds keys and sealed entries.
	found := 0
	for at := 0; at+64 < len(good); at += 4096 {
		if good[at+8]|good[at+9]|good[at+10]|good[at+11] == 0 {
			continue
		}
		for _, off := range []int{0, 8, 10, 12, 16, 19, 20, 23, 24, 27, 28, 31, 40} {
			bad := append([]byte(nil), good...)
			bad[at+off] ^= 0x55
			replace(t, path, bad, int(st.Size()))
			err := checkPages(path)
			if err != nil && !errors.Is(err, errInconsistent) {
				t.Fatal(err)
			}
			if err != nil {
				found++
				continue
			}
			b, err := openBolt(path, true)
			if errors.Is(err, errInconsistent) {
				t.Fatalf("page %d byte %d: bbolt met what the check did not: %v", at/4096, off, err)
			} else if err == nil {
				must(t, b.Close())
			}
		}
	}
	if found < 20 {
		t.Fatalf("%d flips found", found)
	}
}
