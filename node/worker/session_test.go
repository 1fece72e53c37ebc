package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
	"holdfast/node/worker/workertest"
)

// leader is the other end of a worker's session, played by a test.
type leader struct {
	t         *testing.T
	w         *worker.Worker
	exec      *workertest.Executor
	streams   chan io.ReadWriteCloser
	registers atomic.Int32
	stream    io.ReadWriteCloser
	in        chan any // what the worker says; closed at the stream's end
	ended     chan error
	cpu       uint32       // of each assignment; the worker has 1000
	ahead     atomic.Int64 // the worker's clock is that much ahead of its timers
}

// play runs a worker against a scripted leader, in a bubble.
func play(t *testing.T, script func(protocol.Key) workertest.Script, f func(t *testing.T, l *leader)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &leader{t: t, streams: make(chan io.ReadWriteCloser), ended: make(chan error, 1), cpu: 600}
		l.exec = &workertest.Executor{Node: "n", Book: workertest.NewBook(), Script: script}
		l.w = worker.New(worker.Config{Node: "n", Incarnation: 7, Capacity: worker.Capacity{CPUMillis: 1000, MemoryBytes: 1000},
			Executor: l.exec, Outputs: workertest.Outputs{},
			Now:      func() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) },
			Register: func(context.Context) error { l.registers.Add(1); return nil },
			Connect: func(ctx context.Context) (io.ReadWriteCloser, error) {
				near, far := net.Pipe()
				select {
				case l.streams <- far:
					return near, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}})
		ctx, cancel := context.WithCancel(context.Background())
		go func() { l.ended <- l.w.Run(ctx) }()
		f(t, l)
		for _, p := range l.exec.Book.Problems() {
			t.Error("P3: ", p)
		}
		cancel()
		if l.stream != nil {
			_ = l.stream.Close()
		}
		<-l.ended
	})
}

// accept takes the worker's next stream and its Hello.
func (l *leader) accept() *protocol.Hello {
	l.t.Helper()
	l.stream = <-l.streams
	in := make(chan any, 1000)
	l.in = in
	reader := protocol.NewReader(l.stream)
	go func() {
		defer close(in)
		for {
			m, err := reader.Next()
			if err != nil {
				return
			}
			in <- m
		}
	}()
	hello, ok := (<-in).(*protocol.Hello)
	if !ok || hello.Node != "n" || hello.Incarnation != 7 {
		l.t.Fatalf("first message %+v", hello)
	}
	return hello
}

func (l *leader) say(message any) {
	l.t.Helper()
	frame, err := protocol.Append(nil, message)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.stream.Write(frame); err != nil {
		l.t.Fatalf("send %T: %v", message, err)
	}
}

func (l *leader) welcome(superseded ...protocol.Revocation) {
	l.t.Helper()
	l.say(&protocol.Welcome{Version: 1, Term: 5, Lease: simLease, Superseded: superseded})
}

func (l *leader) assign(keys ...protocol.Key) {
	l.t.Helper()
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Shape: fsm.Shape{CPUMillis: l.cpu}})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, k := range keys {
		l.say(&protocol.Assign{Items: []protocol.Assignment{{Key: k, Spec: spec}}})
	}
	synctest.Wait()
}

// report acknowledges renewals until a Report comes, or fails after limit.
func (l *leader) report(limit time.Duration) *protocol.Report {
	l.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case m, ok := <-l.in:
			if !ok {
				l.t.Fatal("the session ended while a Report was due")
			}
			switch m := m.(type) {
			case *protocol.Renew:
				l.say(&protocol.Renewed{Seq: m.Seq})
			case *protocol.Report:
				return m
			}
		case <-timer.C:
			l.t.Fatalf("no Report within %v", limit)
		}
	}
}

func ends(r *protocol.Report) (s []string) {
	for _, e := range r.Reports {
		s = append(s, fmt.Sprintf("%s.%d:%d", e.Task, e.Attempt, e.Result.Reason))
	}
	return s
}

func key(task fsm.TaskID, attempt uint32) protocol.Key {
	return protocol.Key{Task: task, Attempt: attempt}
}

// guards P3: an assignment that comes twice, or late, starts once.
func TestDuplicatesAreIgnored(t *testing.T) {
	play(t, succeed(time.Second), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.assign(key(1, 2), key(1, 2), key(1, 1))
		if n := l.exec.Book.Started(); n != 1 {
			t.Fatalf("%d starts", n)
		}
		r := l.report(2 * time.Second)
		if diff := cmp.Diff([]string{"t1.2:1"}, ends(r)); diff != "" {
			t.Error(diff)
		}
		l.say(&protocol.Reported{Seq: r.Seq})
		l.assign(key(1, 2)) // after its end was committed, even
		<-time.After(100 * time.Millisecond)
		synctest.Wait()
		if n := l.exec.Book.Started(); n != 1 {
			t.Errorf("%d starts after a late repeat", n)
		}
	})
}

func TestReportsAreKeptUntilAnswered(t *testing.T) {
	play(t, succeed(time.Second), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.assign(key(1, 1))
		r := l.report(2 * time.Second)
		l.say(&protocol.Reported{Seq: r.Seq, Retry: true})
		again := l.report(time.Second)
		if diff := cmp.Diff(r.Reports, again.Reports); diff != "" || again.Seq == r.Seq {
			t.Errorf("seq %d after %d, %s", again.Seq, r.Seq, diff)
		}
		_ = l.stream.Close() // without an answer

		hello := l.accept()
		if diff := cmp.Diff([]protocol.Key{key(1, 1)}, hello.Attempts); diff != "" {
			t.Error(diff)
		}
		l.welcome()
		third := l.report(time.Second)
		if diff := cmp.Diff(r.Reports, third.Reports); diff != "" {
			t.Error(diff)
		}
		l.say(&protocol.Reported{Seq: third.Seq})
		synctest.Wait()
		_ = l.stream.Close()
		if hello := l.accept(); len(hello.Attempts) != 0 {
			t.Errorf("after the answer the worker still holds %v", hello.Attempts)
		}
	})
}

// What the state gave away while nobody was connected dies before anything
// else may start, and its end is reported.
func TestWelcomeSupersedes(t *testing.T) {
	play(t, forever(200*time.Millisecond), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.assign(key(1, 1), key(2, 1)) // the second waits for room
		_ = l.stream.Close()
		if hello := l.accept(); len(hello.Attempts) != 2 {
			t.Fatalf("holds %v", hello.Attempts)
		}
		l.welcome(protocol.Revocation{Key: key(1, 1)}, protocol.Revocation{Key: key(2, 1)})
		if diff := cmp.Diff([]string{"t2.1:5"}, ends(l.report(time.Second))); diff != "" {
			t.Error(diff)
		}
		if n := l.exec.Book.Started(); n != 1 {
			t.Errorf("%d starts, the one that waited must not start", n)
		}
		<-time.After(300 * time.Millisecond)
		synctest.Wait()
		if l.w.Running() != 0 {
			t.Error("a superseded attempt lives")
		}
	})
}

// A revocation of something that never came is reported too: the state waits
// for it. And it never starts.
func TestRevokeUnknown(t *testing.T) {
	play(t, succeed(time.Second), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.say(&protocol.Revoke{Items: []protocol.Revocation{{Key: key(9, 3)}}})
		r := l.report(time.Second)
		if diff := cmp.Diff([]string{"t9.3:5"}, ends(r)); diff != "" {
			t.Error(diff)
		}
		l.say(&protocol.Reported{Seq: r.Seq})
		l.assign(key(9, 3))
		if l.exec.Book.Started() != 0 {
			t.Error("a revoked attempt started")
		}
	})
}

// guards P3: attempts of one task never overlap, also on one worker.
func TestNextAttemptWaitsForTheLast(t *testing.T) {
	play(t, forever(500*time.Millisecond), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.cpu = 100 // room is no reason to wait
		l.assign(key(1, 1))
		l.assign(key(1, 2))
		if n := l.exec.Book.Started(); n != 1 {
			t.Fatalf("%d starts", n)
		}
		<-time.After(600 * time.Millisecond)
		synctest.Wait()
		if n := l.exec.Book.Started(); n != 2 || l.w.Running() != 1 {
			t.Errorf("%d starts, %d running", n, l.w.Running())
		}
	})
}

// guards P3: before the worker registers again, everything of it is dead.
func TestRegisterWaitsForTheDead(t *testing.T) {
	play(t, forever(700*time.Millisecond), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.assign(key(1, 1))
		l.say(&protocol.Refuse{Code: protocol.RefuseRegister})
		<-time.After(600 * time.Millisecond)
		if l.registers.Load() != 0 {
			t.Fatal("it registered while an attempt lived")
		}
		hello := l.accept()
		if l.registers.Load() != 1 || l.w.Running() != 0 || len(hello.Attempts) != 1 {
			t.Errorf("%d registrations, %d running, holds %v", l.registers.Load(), l.w.Running(), hello.Attempts)
		}
	})
}

func TestRefusalsEndTheWorker(t *testing.T) {
	for code, want := range map[protocol.RefuseCode]error{protocol.RefuseRemoved: worker.ErrRemoved, protocol.RefuseVersion: worker.ErrVersion} {
		play(t, forever(0), func(t *testing.T, l *leader) {
			l.accept()
			l.say(&protocol.Refuse{Code: code})
			err := <-l.ended
			if !errors.Is(err, want) {
				t.Errorf("code %d: %v", code, err)
			}
			l.ended <- nil // for play
		})
	}
}

// Sessions that cannot be right are given up for another.
func TestBadWelcomes(t *testing.T) {
	for name, message := range map[string]any{
		"another message": &protocol.Renewed{Seq: 1},
		"no lease":        &protocol.Welcome{Version: 1, Term: 5},
		"a lease as long as a removed node's tasks wait": &protocol.Welcome{Version: 1, Term: 5, Lease: fsm.RemoveGrace},
		"an earlier term": &protocol.Welcome{Version: 1, Term: 4, Lease: simLease},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			play(t, succeed(time.Second), func(t *testing.T, l *leader) {
				l.accept()
				l.welcome() // of term 5
				synctest.Wait()
				_ = l.stream.Close()
				l.accept()
				l.say(message)
				for range l.in { // until the worker hangs up
				}
				l.accept()
			})
		})
	}
}

// A leader that is there and says nothing is given up in time for another
// session within the same lease.
func TestSilentLeaderIsLeft(t *testing.T) {
	play(t, forever(0), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.assign(key(1, 1))
		begin := time.Now()
		for range l.in { // renewals, unanswered
		}
		l.accept()
		if since := time.Since(begin); since > simLease*2/3 {
			t.Errorf("another session after %v of a lease of %v", since, simLease)
		}
		l.welcome()
		synctest.Wait()
		if l.w.Running() != 1 {
			t.Error("the attempt did not live through it")
		}
	})
}

func TestUnreadableSpec(t *testing.T) {
	play(t, succeed(time.Second), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		l.say(&protocol.Assign{Items: []protocol.Assignment{{Key: key(1, 1), Spec: []byte{0xff}}}})
		if diff := cmp.Diff([]string{"t1.1:8"}, ends(l.report(time.Second))); diff != "" {
			t.Error(diff)
		}
	})
}
