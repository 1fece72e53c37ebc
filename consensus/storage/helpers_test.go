package storage

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain()
		return
	}
	goleak.VerifyTestMain(m)
}

const canary = "CANARY-do-not-write-me-in-clear"

// countingRand gives the same bytes in every run; for golden files only.
type countingRand struct{ n uint64 }

func (c *countingRand) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n * 7)
		c.n++
	}
	return len(p), nil
}

func fixedKey() Key {
	k, err := NewKey(bytes.Repeat([]byte{0x42}, KeySize))
	if err != nil {
		panic(err)
	}
	return k
}

func privateDir(t testing.TB) string {
	t.Helper()
	d := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(d, 0o700); err != nil {
		t.Fatal(err)
	}
	return d
}

func options(dir string) Options {
	return Options{Dir: dir, Key: fixedKey(), NodeID: "node-a", ClusterID: "cluster-1"}
}

func create(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func reopen(t testing.TB, s *Store, o Options) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, o)
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// entry makes an entry whose content follows from its index.
func entry(i, term uint64) *raft.Log {
	return &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: binary.BigEndian.AppendUint64([]byte(canary), i)}
}

func entries(from, to, term uint64) []*raft.Log {
	var ls []*raft.Log
	for i := from; i <= to; i++ {
		ls = append(ls, entry(i, term))
	}
	return ls
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error %v, want %v", err, target)
	}
}

func wantRange(t testing.TB, ls raft.LogStore, first, last uint64) {
	t.Helper()
	f, err := ls.FirstIndex()
	must(t, err)
	l, err := ls.LastIndex()
	must(t, err)
	if f != first || l != last {
		t.Fatalf("log holds %d..%d, want %d..%d", f, l, first, last)
	}
}

func wantEntry(t testing.TB, ls raft.LogStore, want *raft.Log) {
	t.Helper()
	var got raft.Log
	if err := ls.GetLog(want.Index, &got); err != nil {
		t.Fatalf("entry %d: %v", want.Index, err)
	}
	if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) ||
		!bytes.Equal(got.Extensions, want.Extensions) || !got.AppendedAt.Equal(want.AppendedAt) {
		t.Fatalf("entry %d: got %+v, want %+v", want.Index, got, want)
	}
}

// noCanary fails if any file below dir holds the canary.
func noCanary(t testing.TB, dir string) {
	t.Helper()
	seen := 0
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		b, err := os.ReadFile(p)
		if err == nil && bytes.Contains(b, []byte(canary[:12])) {
			t.Errorf("%s holds plaintext", p)
		}
		return err
	}))
	if seen == 0 {
		t.Fatal("no file to look at")
	}
}

// fakeBackend is a lower store under the test's control.
type fakeBackend struct {
	Backend
	mu    sync.Mutex
	err   error         // every write fails with it
	block chan struct{} // writes wait until it is closed
	calls int
}

func (f *fakeBackend) gate() error {
	f.mu.Lock()
	f.calls++
	err, block := f.err, f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	return err
}

func (f *fakeBackend) set(err error, block chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.block = err, block
}

func (f *fakeBackend) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fakeBackend) StoreLogs(ls []*raft.Log) error {
	if err := f.gate(); err != nil {
		return err
	}
	return f.Backend.StoreLogs(ls)
}

func (f *fakeBackend) DeleteRange(a, b uint64) error {
	if err := f.gate(); err != nil {
		return err
	}
	return f.Backend.DeleteRange(a, b)
}

func (f *fakeBackend) Set(k, v []byte) error {
	if err := f.gate(); err != nil {
		return err
	}
	return f.Backend.Set(k, v)
}

// wrapBolt returns options whose backend is bolt behind a fake.
func wrapBolt(o Options) (Options, *fakeBackend) {
	f := &fakeBackend{}
	o.Backend = func(path string) (Backend, error) {
		b, err := OpenBolt(path)
		f.Backend = b
		return f, err
	}
	return o, f
}

func randomBytes(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(rand.Reader, b); err != nil {
		t.Fatal(err)
	}
	return b
}

var standing = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
