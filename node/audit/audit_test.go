package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = []byte("a key")

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.WithoutCancel(t.Context())) })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func record(t testing.TB, l *Log, target string) {
	t.Helper()
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.End("token:a", "10.0.0.1:5", "submit-task", target, "ok")
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not come about", what)
		}
	}
}

func TestFormat(t *testing.T) {
	r := Record{
		Seq: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC), Principal: "token:abc", Source: "[::1]:9",
		Action: "cancel-task", Target: "t5", Outcome: "not_found", Prev: genesis,
	}
	line, err := r.seal(newMAC(key))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/record.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(line, golden) {
		t.Errorf("the format changed: files that exist could no longer be verified\ngot  %swant %s", line, golden)
	}
	back, err := parse(bytes.TrimSpace(golden), newMAC(key))
	if err != nil || back != r {
		t.Errorf("read back as %+v, %v", back, err)
	}
}

// guards P8
func TestChain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	cfg := Config{Dir: dir, Key: key, MaxBytes: 2000}
	total := 0
	for restart := range 3 {
		l := open(t, cfg)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { record(t, l, fmt.Sprintf("t%d-%d", restart, i)) })
		}
		wg.Wait()
		l.Note("", "x", "GET /v1/tasks", "", "unauthenticated")
		closeLog(t, l)
		total += 21
		head, err := Verify(dir, key)
		if err != nil || head.Seq != uint64(total) || head.First != 1 || head != l.Head() && restart == 0 {
			t.Fatalf("after start %d: %+v, %v; the log says %+v", restart, head, err, l.Head())
		}
	}
	files, err := list(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v: nothing was rotated", len(files), err)
	}
	if _, err := Verify(dir, []byte("another key")); !errors.Is(err, errHash) {
		t.Errorf("under another key: %v", err)
	}
	if info, err := os.Stat(files[0].path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// guards P8: every way to change what was recorded is found.
func TestVerifyFindsChanges(t *testing.T) {
	lines := func(b []byte) [][]byte { return bytes.SplitAfter(b, []byte("\n")) }
	for _, c := range []struct {
		name   string
		change func(t *testing.T, files []string)
	}{
		{"edit", func(t *testing.T, f []string) {
			edit(t, f[1], func(b []byte) []byte { return bytes.Replace(b, []byte("token:a"), []byte("token:b"), 1) })
		}},
		{"edit the last record", func(t *testing.T, f []string) {
			edit(t, f[len(f)-1], func(b []byte) []byte {
				i := bytes.LastIndex(b, []byte("token:a"))
				return append(append(b[:i:i], "token:b"...), b[i+7:]...)
			})
		}},
		{"white space", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { return bytes.Replace(b, []byte(`{"seq"`), []byte(`{ "seq"`), 1) })
		}},
		{"another field", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { return bytes.Replace(b, []byte(`"outcome"`), []byte(`"x":1,"outcome"`), 1) })
		}},
		{"delete a record", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { l := lines(b); return bytes.Join(append(l[:1:1], l[2:]...), nil) })
		}},
		{"delete the first record", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { return bytes.Join(lines(b)[1:], nil) })
		}},
		{"exchange two records", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { l := lines(b); l[0], l[1] = l[1], l[0]; return bytes.Join(l, nil) })
		}},
		{"repeat a record", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { l := lines(b); return append(bytes.Clone(l[0]), b...) })
		}},
		{"truncate a file in the middle", func(t *testing.T, f []string) {
			edit(t, f[0], func(b []byte) []byte { l := lines(b); return bytes.Join(l[:len(l)-2], nil) })
		}},
		{"cut a line", func(t *testing.T, f []string) { edit(t, f[0], func(b []byte) []byte { return b[:len(b)-5] }) }},
		{"delete a file in the middle", func(t *testing.T, f []string) {
			if err := os.Remove(f[1]); err != nil {
				t.Fatal(err)
			}
		}},
		{"rename a file", func(t *testing.T, f []string) {
			if err := os.Rename(f[1], filepath.Join(filepath.Dir(f[1]), name(999))); err != nil {
				t.Fatal(err)
			}
		}},
		{"a file of another name", func(t *testing.T, f []string) {
			if err := os.WriteFile(filepath.Join(filepath.Dir(f[0]), "audit-7.jsonl"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, Config{Dir: dir, Key: key, MaxBytes: 1000})
			for i := range 20 {
				record(t, l, fmt.Sprint("t", i))
				eventually(t, "the write", func() bool { return l.Head().Seq == uint64(i+1) }) // so that files are rotated
			}
			closeLog(t, l)
			if _, err := Verify(dir, key); err != nil {
				t.Fatal(err)
			}
			files, err := list(dir)
			if err != nil || len(files) < 3 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			var paths []string
			for _, f := range files {
				paths = append(paths, f.path)
			}
			c.change(t, paths)
			var fault *Fault
			if _, err := Verify(dir, key); !errors.As(err, &fault) || fault.Error() == "" {
				t.Errorf("not found: %v", err)
			}
		})
	}
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenAfterDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		action string
		whole  bool // Verify finds nothing wrong afterwards
	}{
		{"half a record", func(b []byte) []byte { return append(b, `{"seq":6,"ti`...) }, "audit.cut", true},
		{"half of the first record", func([]byte) []byte { return []byte(`{"seq":1`) }, "audit.cut", true},
		{"zeros", func(b []byte) []byte { return append(b, "\x00\x00\x00\n"...) }, "audit.broken", false},
		{"an edit", func(b []byte) []byte { return bytes.Replace(b, []byte("t3"), []byte("t4"), 1) }, "audit.broken", false},
		{"an edit of the first", func(b []byte) []byte { return bytes.Replace(b, []byte("t0"), []byte("t4"), 1) }, "audit.broken", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			l := open(t, Config{Dir: dir, Key: key})
			for i := range 5 {
				record(t, l, fmt.Sprint("t", i))
			}
			closeLog(t, l)
			edit(t, pathOf(dir, 1), c.change)
			l = open(t, Config{Dir: dir, Key: key})
			record(t, l, "after")
			closeLog(t, l)
			if _, err := Verify(dir, key); (err == nil) != c.whole {
				t.Errorf("verify: %v", err)
			}
			files, err := list(dir)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(files[len(files)-1].path)
			if err != nil || !strings.Contains(string(b), c.action) || !strings.Contains(string(b), `"after"`) {
				t.Errorf("%v: %s", err, b)
			}
			l = open(t, Config{Dir: dir, Key: key}) // and once more
			closeLog(t, l)
		})
	}
}

func TestMaxFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, MaxBytes: 500, MaxFiles: 2})
	for i := range 20 {
		record(t, l, "t")
		eventually(t, "the write", func() bool { return l.Head().Seq == uint64(i+1) })
	}
	closeLog(t, l)
	files, err := list(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v", len(files), err)
	}
	head, err := Verify(dir, nil)
	if err != nil || head.Seq != 20 || head.First == 1 {
		t.Errorf("%+v, %v", head, err)
	}
}

// breaking is a file whose writes or syncs fail while told so.
type breaking struct {
	handle
	write, sync *atomic.Bool
}

var errDisk = errors.New("no space left")

func (b breaking) Write(p []byte) (int, error) {
	if b.write.Load() {
		n, _ := b.handle.Write(p[:len(p)/2])
		return n, errDisk
	}
	return b.handle.Write(p)
}

func (b breaking) Sync() error {
	if b.sync.Load() {
		return errDisk
	}
	return b.handle.Sync()
}

// guards P8: what cannot be recorded does not happen, and what happened is
// recorded once the disk takes it.
func TestDiskFull(t *testing.T) {
	var write, sync atomic.Bool
	var told atomic.Int32
	dir := t.TempDir()
	l := open(t, Config{
		Dir: dir, Retry: time.Millisecond, Slots: 4, OnError: func(error) { told.Add(1) },
		wrap: func(h handle) handle { return breaking{h, &write, &sync} },
	})
	record(t, l, "before")
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write", func() bool { return l.Head().Seq == 1 })
	write.Store(true)
	l.End("token:a", "", "submit-task", "during", "ok")
	eventually(t, "the refusal", func() bool { return errors.Is(l.err(), ErrFailed) })
	if err := l.Begin(t.Context()); !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
		t.Errorf("begin on a full disk: %v", err)
	}
	for range 5 {
		l.Note("", "", "get-task", "", "forbidden") // three find room
	}
	write.Store(false)
	eventually(t, "recovery", func() bool { return l.err() == nil })
	record(t, l, "after")
	closeLog(t, l)
	if told.Load() != 1 {
		t.Errorf("the failure was told %d times", told.Load())
	}
	head, err := Verify(dir, nil)
	if err != nil || head.Seq != 7 {
		t.Errorf("%+v, %v", head, err)
	}
	b, err := os.ReadFile(pathOf(dir, 1))
	if err != nil || !strings.Contains(string(b), "during") || !strings.Contains(string(b), "2 refusals found no room") {
		t.Errorf("%v: %s", err, b)
	}
}

func TestFailedSyncLatches(t *testing.T) {
	var write, sync atomic.Bool
	l := open(t, Config{
		Dir: t.TempDir(), Sync: time.Millisecond, Retry: time.Millisecond,
		wrap: func(h handle) handle { return breaking{h, &write, &sync} },
	})
	sync.Store(true)
	record(t, l, "x")
	eventually(t, "the refusal", func() bool { return errors.Is(l.err(), ErrFailed) })
	sync.Store(false)
	l.Note("", "", "y", "", "z")
	eventually(t, "the next write", func() bool { return l.Head().Seq == 2 })
	if err := l.Begin(t.Context()); !errors.Is(err, ErrFailed) {
		t.Errorf("after a failed sync: %v", err)
	}
}

func TestBeginBlocks(t *testing.T) {
	l := open(t, Config{Dir: t.TempDir(), Slots: 2})
	for range 2 {
		if err := l.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { got <- l.Begin(ctx) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("without room: %v", err)
	}
	go func() { got <- l.Begin(t.Context()) }()
	l.End("", "", "a", "", "ok")
	if err := <-got; err != nil {
		t.Errorf("with room: %v", err)
	}
	// Two claims are open: Close waits for them, and gives up with its context.
	if err := l.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("close: %v", err)
	}
	if err := l.Begin(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	l.End("", "", "late", "", "ok") // must not block or panic
	l.Note("", "", "late", "", "ok")
}

func FuzzParse(f *testing.F) {
	r := Record{Seq: 1, Action: "a", Outcome: "ok", Prev: genesis}
	line, err := r.seal(newMAC(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimSpace(line))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parse(in, newMAC(nil))
		if err != nil {
			return
		}
		again, err := r.seal(newMAC(nil))
		if err != nil || !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), in) {
			t.Fatalf("%q was accepted and is written as %q", in, again)
		}
	})
}
