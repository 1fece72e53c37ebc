package storage

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	bolterrors "go.etcd.io/bbolt/errors"
)

type stallLog struct {
	patience int // how many reports are not enough
	mu       sync.Mutex
	ops      []string
	at       []time.Duration
}

func (s *stallLog) add(op string, d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops, s.at = append(s.ops, op), append(s.at, d)
	return len(s.ops) > s.patience
}

func testDog(limit time.Duration, o Options) *watchdog {
	o.StallLimit, o.Now = limit, time.Now
	return newWatchdog(&o)
}

// guards P12: a hung write is reported once, at its limit, and not abandoned.
func TestHungWriteIsReportedOnceAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st stallLog
		var seen []time.Duration
		w := testDog(2*time.Second, Options{OnStall: st.add, Observe: func(_ string, d time.Duration) { seen = append(seen, d) }})
		release, done := make(chan struct{}), make(chan error, 1)
		go func() { done <- w.do("store logs", func() error { <-release; return nil }) }()
		time.Sleep(1999 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		if len(st.ops) != 0 {
			t.Fatalf("fired early: %v", st.at)
		}
		if d := w.longest(); d != 1999*time.Millisecond {
			t.Fatalf("longest %v", d)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(st.ops) != 1 || st.ops[0] != "store logs" || st.at[0] != 2*time.Second {
			t.Fatalf("got %v at %v", st.ops, st.at)
		}
		select {
		case err := <-done:
			t.Fatalf("the stuck write was abandoned: %v", err)
		default:
		}
		close(release)
		must(t, <-done) // it was slow, not failed
		must(t, w.err())
		if len(seen) != 1 || seen[0] < time.Hour || w.longest() != 0 {
			t.Fatalf("observed %v", seen)
		}
		go func() { done <- w.do("again", func() error { time.Sleep(time.Hour); return nil }) }()
		must(t, <-done)
		if len(st.ops) != 1 {
			t.Fatal("reported twice")
		}
	})
}

// guards P12: who wants to wait longer hears again, as long as the write lasts.
func TestHungWriteIsReportedUntilItIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := stallLog{patience: 4}
		w := testDog(2*time.Second, Options{OnStall: st.add})
		hang := func(d time.Duration) {
			t.Helper()
			must(t, w.do("store logs", func() error { time.Sleep(d); return nil }))
			synctest.Wait()
		}
		hang(2300 * time.Millisecond) // over at 2 and 2.25 s, and then it ends
		if len(st.ops) != 2 || st.at[1] != 2250*time.Millisecond {
			t.Fatalf("got %v at %v", st.ops, st.at)
		}
		hang(time.Hour)
		if len(st.ops) != 5 || st.at[4] != 2500*time.Millisecond {
			t.Fatalf("got %v at %v", st.ops, st.at)
		}
		hang(time.Hour)
		if len(st.ops) != 5 {
			t.Fatal("reported after it was enough")
		}
	})
}

func TestFastWritesFireNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st stallLog
		w := testDog(time.Second, Options{OnStall: st.add})
		for range 100 {
			must(t, w.do("x", func() error { time.Sleep(990 * time.Millisecond); return nil }))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(st.ops) != 0 {
			t.Fatal("fired")
		}
	})
}

// A process that was stopped sees one late timer step, not eight.
func TestStoppedProcessIsNoStall(t *testing.T) {
	var st stallLog
	w := testDog(time.Hour, Options{OnStall: st.add})
	now := time.Now()
	w.now = func() time.Time { return now }
	wr := w.begin("store logs")
	now = now.Add(10 * time.Hour) // SIGSTOP, SIGCONT
	w.tick(wr)
	if len(st.ops) != 0 {
		t.Fatal("the disk was blamed")
	}
	for range stallSteps - 1 {
		w.tick(wr)
	}
	if len(st.ops) != 1 {
		t.Fatal("a real stall went unnoticed")
	}
	w.end(wr)
	w.tick(wr) // a late timer after the end does nothing
}

// guards P12: after one failed write nothing else is tried on this disk, and
// recent entries, durable before the failure, still can be read.
func TestFailedWriteLatches(t *testing.T) {
	ioErr := errors.New("fsync: input/output error")
	ops := map[string]func(s *Store) error{
		"store":  func(s *Store) error { return s.Logs().StoreLog(entry(5, 1)) },
		"delete": func(s *Store) error { return s.Logs().DeleteRange(1, 1) },
		"stable": func(s *Store) error { return s.Stable().SetUint64([]byte("CurrentTerm"), 9) },
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			o, fake := wrapBolt(options(privateDir(t)))
			var failed []error
			o.OnFailed = func(err error) { failed = append(failed, err) }
			s := create(t, o)
			must(t, s.Stable().SetUint64([]byte("CurrentTerm"), 3))
			must(t, s.Logs().StoreLogs(entries(1, 4, 1)))
			fake.set(ioErr, nil)
			wantErr(t, op(s), ioErr)
			fake.set(nil, nil) // the disk pretends to be well again
			before := fake.count()
			for n, again := range ops {
				if err := again(s); !errors.Is(err, ioErr) {
					t.Fatalf("%s after the failure: %v", n, err)
				}
			}
			if fake.count() != before {
				t.Fatal("the failed disk was tried again")
			}
			_, err := s.Stable().Get([]byte("CurrentTerm"))
			wantErr(t, err, ioErr)
			_, err = s.Logs().LastIndex()
			wantErr(t, err, ioErr)
			wantErr(t, s.Err(), ioErr)
			if len(failed) != 1 || !errors.Is(failed[0], ioErr) {
				t.Fatalf("OnFailed: %v", failed)
			}
			wantEntry(t, s.Logs(), entry(4, 1))
			var l raft.Log
			if err := s.Logs().GetLog(99, &l); !errors.Is(err, ioErr) {
				t.Fatalf("a read that needs the disk: %v", err)
			}
		})
	}
}

// guards P12, the whole stack: raft's goroutine stays in StoreLogs while the
// report leaves, and the entry is there once the disk comes back.
func TestHungDiskThroughTheStack(t *testing.T) {
	o, fake := wrapBolt(options(privateDir(t)))
	stalled := make(chan string, 1)
	o.StallLimit, o.OnStall = 20*time.Millisecond, func(op string, _ time.Duration) bool { stalled <- op; return true }
	s := create(t, o)
	release, done := make(chan struct{}), make(chan error, 1)
	fake.set(nil, release)
	go func() { done <- s.Logs().StoreLog(entry(1, 1)) }()
	if op := <-stalled; op != "store logs" {
		t.Fatalf("stalled in %q", op)
	}
	if s.LongestWrite() <= 0 {
		t.Fatal("no write in flight")
	}
	var l raft.Log
	if err := s.Logs().GetLog(1, &l); err != raft.ErrLogNotFound {
		t.Fatalf("an entry that is not durable: %v", err)
	}
	close(release)
	must(t, <-done)
	wantEntry(t, s.Logs(), entry(1, 1))
}

func TestClosedStoreAnswers(t *testing.T) {
	s := create(t, options(privateDir(t)))
	must(t, s.Close())
	must(t, s.Close())
	wantErr(t, s.Logs().StoreLog(entry(1, 1)), ErrClosed)
	wantErr(t, s.Stable().Set([]byte("a"), nil), ErrClosed)
	_, err := s.Logs().FirstIndex()
	wantErr(t, err, ErrClosed)
}

// A panic of the database on damaged pages becomes an error and frees its locks.
func TestBackendContainsPanics(t *testing.T) {
	var err error
	func() {
		defer contain(&err)
		panic("assertion failed: page")
	}()
	wantErr(t, err, errInconsistent)
	if !isInconsistent(err) || !isInconsistent(bolterrors.ErrInvalid) || isInconsistent(bolterrors.ErrTimeout) || isInconsistent(&os.PathError{Err: syscall.EIO}) {
		t.Fatal("damage and refusal are confused")
	}
}
