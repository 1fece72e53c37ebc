package outputs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"holdfast/fsm"
	"holdfast/node/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = bytes.Repeat([]byte{7}, 32)

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Key = key
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func create(t *testing.T, s *Store, task fsm.TaskID, limit int64) worker.Output {
	t.Helper()
	o, err := s.Create(task, 1, limit)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func put(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if n, err := io.WriteString(w, text); n != len(text) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func get(t *testing.T, s *Store, task fsm.TaskID, stream Stream, offset int64, follow bool) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := s.Read(ctx, task, 1, stream, offset, follow)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestWriteFinishRead(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 0)
	put(t, o.Stdout(), "to out, ")
	put(t, o.Stderr(), "to err, ")
	put(t, o.Stdout(), "again")
	sum := o.Finish()
	if sum.StdoutBytes != 13 || sum.StderrBytes != 8 || sum.Truncated || string(sum.Tail) != "to out, to err, again" {
		t.Errorf("summary %+v, tail %q", sum, sum.Tail)
	}
	for _, c := range []struct {
		stream Stream
		offset int64
		want   string
	}{{Stdout, 0, "to out, again"}, {Stdout, 8, "again"}, {Stdout, 13, ""}, {Stdout, 99, ""}, {Stderr, 0, "to err, "}} {
		if got, err := get(t, s, 1, c.stream, c.offset, false); got != c.want || err != nil {
			t.Errorf("%s from %d: %q, %v", c.stream, c.offset, got, err)
		}
	}
	if _, err := get(t, s, 2, Stdout, 0, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown attempt: %v", err)
	}
	if _, err := s.Create(1, 1, 0); err == nil {
		t.Error("one attempt got two outputs")
	}
}

// A silent attempt costs no file; a silent stream beside a loud one is empty.
func TestSilence(t *testing.T) {
	s := open(t, Config{})
	create(t, s, 1, 0).Finish()
	if entries, _ := os.ReadDir(s.cfg.Dir); len(entries) != 0 {
		t.Errorf("%d files for no output", len(entries))
	}
	if _, err := get(t, s, 1, Stdout, 0, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("a silent attempt: %v", err)
	}
	o := create(t, s, 2, 0)
	put(t, o.Stdout(), "x")
	o.Finish()
	if got, err := get(t, s, 2, Stderr, 0, true); got != "" || err != nil {
		t.Errorf("the silent stream: %q, %v", got, err)
	}
}

// guards P6: nothing of an output lies on the disk in clear.
func TestSealed(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 0)
	put(t, o.Stdout(), "a very secret word")
	o.Finish()
	raw, err := os.ReadFile(filepath.Join(s.cfg.Dir, "t1.1.stdout"))
	if err != nil || bytes.Contains(raw, []byte("secret")) {
		t.Errorf("in clear, or %v", err)
	}
}

func TestFollow(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 0)
	r, err := s.Read(t.Context(), 1, 1, Stdout, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	pieces := make(chan string)
	failed := make(chan error, 1)
	go func() {
		defer close(pieces)
		b := make([]byte, 100)
		for {
			n, err := r.Read(b)
			if err != nil {
				failed <- err
				return
			}
			pieces <- string(b[:n])
		}
	}()
	put(t, o.Stdout(), "one")
	if got := <-pieces; got != "one" { // before the end: a flush by time
		t.Errorf("first piece %q", got)
	}
	put(t, o.Stdout(), "two")
	o.Finish()
	var rest strings.Builder
	for p := range pieces {
		rest.WriteString(p)
	}
	if rest.String() != "two" || <-failed != io.EOF {
		t.Errorf("rest %q", rest.String())
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	s := open(t, Config{})
	create(t, s, 1, 0)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Read(ctx, 1, 1, Stdout, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// guards P10: an output is bounded, and says so; the task is not disturbed.
func TestLimit(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 10)
	put(t, o.Stdout(), "12345678")
	put(t, o.Stderr(), "abcd")
	put(t, o.Stdout(), "the end")
	sum := o.Finish()
	if sum.StdoutBytes != 8 || sum.StderrBytes != 2 || !sum.Truncated {
		t.Errorf("summary %+v", sum)
	}
	if !strings.HasSuffix(string(sum.Tail), "the end") {
		t.Errorf("the tail shows the last bytes, kept or not: %q", sum.Tail)
	}
	if got, err := get(t, s, 1, Stderr, 0, false); got != "ab" || err != nil {
		t.Errorf("stderr: %q, %v", got, err)
	}
}

// guards P10: the folder is bounded; the oldest finished outputs make room.
func TestRetention(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := open(t, Config{MaxBytes: 3000, MaxAge: time.Hour, Now: func() time.Time { return now }})
	for task := fsm.TaskID(1); task <= 4; task++ {
		o := create(t, s, task, 0)
		put(t, o.Stdout(), strings.Repeat("x", 900))
		o.Finish()
	}
	if _, err := get(t, s, 1, Stdout, 0, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("the oldest stayed: %v", err)
	}
	if got, err := get(t, s, 4, Stdout, 0, false); len(got) != 900 || err != nil {
		t.Errorf("the newest: %d bytes, %v", len(got), err)
	}
	if s.Bytes() > 3000 {
		t.Errorf("the folder holds %d bytes", s.Bytes())
	}
	// Nothing finished is left to go: the one that writes is truncated.
	o := create(t, s, 5, 0)
	put(t, o.Stdout(), strings.Repeat("y", 200_000))
	if sum := o.Finish(); !sum.Truncated || s.Bytes() > 3000 {
		t.Errorf("summary %+v, folder %d bytes", sum, s.Bytes())
	}
	now = now.Add(2 * time.Hour)
	s.Sweep()
	if s.Bytes() != 0 {
		t.Errorf("after the maximum age the folder holds %d bytes", s.Bytes())
	}
	if entries, _ := os.ReadDir(s.cfg.Dir); len(entries) != 0 {
		t.Errorf("%d files stayed", len(entries))
	}
}

// A disk that takes nothing truncates the output and nothing else.
func TestBrokenDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "outputs")
	s := open(t, Config{Dir: dir})
	o := create(t, s, 1, 0)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	put(t, o.Stdout(), "gone")
	if sum := o.Finish(); !sum.Truncated || sum.StdoutBytes != 0 || string(sum.Tail) != "gone" {
		t.Errorf("summary %+v", sum)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir})
	o := create(t, s, 1, 0)
	put(t, o.Stdout(), "complete")
	o.Finish()
	cut := create(t, s, 2, 0)
	put(t, cut.Stdout(), "flushed")
	cut.(*recorder).flushNow()
	put(t, cut.Stdout(), "lost in the crash")

	// A crash: the second store finds what the first left, which goes on for
	// nobody. What was half written is cut off.
	again := open(t, Config{Dir: dir})
	if got, err := get(t, again, 1, Stdout, 0, true); got != "complete" || err != nil {
		t.Errorf("finished: %q, %v", got, err)
	}
	if got, err := get(t, again, 2, Stdout, 0, true); got != "flushed" || !errors.Is(err, ErrCutShort) {
		t.Errorf("left open: %q, %v", got, err)
	}
	if again.Bytes() == 0 {
		t.Error("what was left is not counted")
	}
}

func TestDamageIsNamed(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 0)
	put(t, o.Stdout(), strings.Repeat("z", 1000))
	o.Finish()
	path := filepath.Join(s.cfg.Dir, "t1.1.stdout")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := get(t, s, 1, Stdout, 0, false)
	var damage *DamageError
	if got != "" || !errors.As(err, &damage) || damage.File != path {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// A file under another attempt's name does not open either.
	put(t, create(t, s, 2, 0).Stdout(), "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, filepath.Join(s.cfg.Dir, "t2.1.stdout")); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, s, 2, Stdout, 0, false); !errors.As(err, &damage) {
		t.Errorf("another attempt's file: %v", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 0)
	put(t, o.Stdout(), "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, o.Stdout(), "after the end")
	if got, err := get(t, s, 1, Stdout, 0, true); got != "x" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.Create(2, 1, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("create after Close: %v", err)
	}
}

func TestForeignFilesStay(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"README", "t0.1.stdout", "t1.x.stdout", "t1.1.other"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Config{Dir: dir, MaxBytes: 1})
	if s.Bytes() != 0 {
		t.Errorf("counted %d foreign bytes", s.Bytes())
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 {
		t.Errorf("%d of 4 files stayed", len(entries))
	}
}

// The tail is the last 4 KiB, however the pieces fall.
func TestRingProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var all []byte
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 6000), 0, 12).Draw(t, "pieces") {
			p := bytes.Repeat([]byte{byte(n)}, n)
			for i := range p {
				p[i] = byte(len(all) + i)
			}
			r.write(p)
			all = append(all, p...)
		}
		want := all[max(0, len(all)-tailBytes):]
		if !bytes.Equal(r.bytes(), want) {
			t.Fatalf("tail of %d bytes differs", len(all))
		}
	})
}
