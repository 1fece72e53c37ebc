package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	bolterrors "go.etcd.io/bbolt/errors"
	"pgregory.net/rapid"
)

// tryAll opens the store and reads everything. It fails the test if anything
// is served that was not written, or if something written is missing without
// an error.
func tryAll(t interface{ Fatalf(string, ...any) }, o Options, last, term uint64) (err error) {
	o.Backend = func(path string) (Backend, error) { return openBolt(path, true) }
	s, err := Open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	first, err := s.Logs().FirstIndex()
	if err != nil {
		return err
	}
	for i := uint64(1); i <= last; i++ {
		var l raft.Log
		if err := s.Logs().GetLog(i, &l); err != nil {
			return err // raft refuses to start, or panics
		}
		if want := entry(i, 1); l.Index != i || l.Term != 1 || l.Type != want.Type || !bytes.Equal(l.Data, want.Data) {
			t.Fatalf("entry %d: served %+v", i, l)
		}
	}
	if n, err := s.Logs().LastIndex(); err != nil {
		return err
	} else if first != 1 || n != last {
		t.Fatalf("the log claims %d..%d", first, n)
	}
	if v, err := s.Stable().GetUint64([]byte("CurrentTerm")); err != nil {
		return err
	} else if v != term {
		t.Fatalf("term %d", v)
	}
	return nil
}

// damagedCopy returns a closed store, the used part of its database (bbolt
// grows the file by 16 MiB of hole), and the file's size.
func damagedCopy(t testing.TB) (Options, []byte, int) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Stable().SetUint64([]byte("CurrentTerm"), 77))
	for i := uint64(1); i <= 60; i += 3 {
		must(t, s.Logs().StoreLogs(entries(i, i+2, 1)))
	}
	must(t, s.Close())
	good, err := os.ReadFile(filepath.Join(o.Dir, logFile))
	must(t, err)
	must(t, tryAll(t, o, 60, 77))
	return o, bytes.TrimRight(good, "\x00"), len(good)
}

// replace writes a new file: a database that panicked keeps its lock on the
// old one until the process ends.
func replace(t interface{ Fatalf(string, ...any) }, path string, b []byte, size int) {
	if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600), os.Truncate(path, int64(size))); err != nil {
		t.Fatalf("%v", err)
	}
}

// guards P1 and P6: whatever byte of the whole database file changes, nothing
// wrong is served and nothing acknowledged silently disappears.
func TestFlippedBytesOfTheDatabase(t *testing.T) {
	o, good, size := damagedCopy(t)
	path := filepath.Join(o.Dir, logFile)
	var used []int
	for i, b := range good {
		if b != 0 {
			used = append(used, i)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		i, bit := rapid.SampledFrom(used).Draw(t, "byte"), rapid.IntRange(0, 7).Draw(t, "bit")
		good[i] ^= 1 << bit
		replace(t, path, good, size)
		good[i] ^= 1 << bit
		err := tryAll(t, o, 60, 77) // an error is fine, wrong data is not
		if errors.Is(err, bolterrors.ErrTimeout) {
			t.Fatalf("the test held the file's lock: %v", err)
		}
	})
	replace(t, path, good, size)
	must(t, tryAll(t, o, 60, 77))
}

// Half-written files: cut at any length, the store refuses or is whole.
func TestTruncatedDatabase(t *testing.T) {
	o, good, size := damagedCopy(t)
	path := filepath.Join(o.Dir, logFile)
	page := os.Getpagesize()
	for _, n := range []int{1, 100, page / 2, page, 2*page - 1, 2 * page, 3 * page, 4*page - 1, 4 * page, 6*page + 9, 9 * page, len(good) - 1, 1 << 20, size - 1} {
		replace(t, path, good, n)
		if err := tryAll(t, o, 60, 77); n < 4*page && !NeedsRejoin(err) { // behind that, pages may be unused
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestDamagedStableValues(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Stable().Set([]byte("LastVoteCand"), []byte(canary)))
	must(t, s.Stable().SetUint64([]byte("CurrentTerm"), 7))
	must(t, s.Stable().Set([]byte("empty"), nil))
	if v, err := s.Stable().Get([]byte("empty")); err != nil || len(v) != 0 {
		t.Fatalf("%q %v", v, err)
	}
	if _, err := s.Stable().Get([]byte("never")); err == nil || err.Error() != "not found" { // raft compares the text
		t.Fatal(err)
	}
	noCanary(t, o.Dir)
	good, err := s.low.Get([]byte("CurrentTerm"))
	must(t, err)
	vote, err := s.low.Get([]byte("LastVoteCand"))
	must(t, err)
	bad := [][]byte{vote, {}, good[:5]} // another key's value, nothing, a piece
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		bad = append(bad, b)
	}
	for i, b := range bad {
		must(t, s.low.Set([]byte("CurrentTerm"), b))
		s.dog.latched.Store(nil)
		_, err := s.Stable().GetUint64([]byte("CurrentTerm"))
		var d *DamageError
		if !errors.As(err, &d) || d.Where != "key CurrentTerm" {
			t.Fatalf("case %d: %v", i, err)
		}
	}
}
