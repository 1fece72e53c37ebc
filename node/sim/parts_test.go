package sim

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// bubble runs f with a world of two machines without a cluster on them.
func bubble(t *testing.T, f func(*World, *proc, *proc)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(Draw(1, time.Second), nil)
		w.cfg.StallLimit = time.Hour
		var procs []*proc
		for _, id := range []string{"a", "b"} {
			h := w.newHost(id)
			w.mu.Lock()
			procs = append(procs, newProc(h, 1))
			w.mu.Unlock()
		}
		f(w, procs[0], procs[1])
		w.stop()
		w.group.Wait()
	})
}

func (w *World) kinds() string {
	var kinds []string
	for _, p := range w.problems {
		kinds = append(kinds, p.Kind)
	}
	return strings.Join(kinds, ",")
}

// What was synced survives everything, what was only written survives the
// process, and nothing that a ghost does reaches the disk.
func TestDiskLosesWhatWasNotSynced(t *testing.T) {
	for _, power := range []bool{true, false} {
		bubble(t, func(_ *World, p, _ *proc) {
			d := p.disk
			if err := (logs{d}).StoreLog(&raft.Log{Index: 1}); err != nil {
				t.Error(err)
			}
			release := d.hang()
			done := make(chan error, 1)
			go func() { done <- logs{d}.StoreLog(&raft.Log{Index: 2}) }()
			synctest.Wait()
			d.rng.Uint64() // the kernel may have written it: another draw does not matter below
			left := d.crash(power)
			p.cancel(errPowerLost)
			release()
			if err := <-done; !errors.Is(err, errPowerLost) {
				t.Errorf("a dead process's write ended with %v", err)
			}
			if err := (logs{d}).StoreLog(&raft.Log{Index: 3}); err == nil {
				t.Error("a ghost wrote")
			}
			last, _ := logs{left}.LastIndex()
			if power && last > 2 || !power && last != 2 || last < 1 {
				t.Errorf("power %v: the last entry is %d", power, last)
			}
		})
	}
}

// After a write that failed, all fail, until the process is another one.
func TestDiskLatches(t *testing.T) {
	bubble(t, func(w *World, p, _ *proc) {
		p.disk.fail(errDisk)
		if err := (logs{p.disk}).StoreLog(&raft.Log{Index: 1}); !errors.Is(err, errDisk) {
			t.Errorf("a bad disk wrote: %v", err)
		}
		p.disk.fail(nil)
		if err := (logs{p.disk}).StoreLog(&raft.Log{Index: 2}); err == nil {
			t.Error("a disk that has failed was trusted again")
		}
		p.host.wanted = false
	})
}

func TestCutWayHoldsBackAndDelivers(t *testing.T) {
	bubble(t, func(w *World, a, b *proc) {
		w.net.alter(func() { w.net.cut[way{"a", "b"}] = true })
		short, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if w.net.cross(short, "a", "b") == nil {
			t.Error("a cut way let something through")
		}
		if err := w.net.cross(w.ctx, "b", "a"); err != nil {
			t.Errorf("the other direction is cut too: %v", err)
		}
		began := time.Now()
		w.group.Go(func() {
			sleep(w.ctx, 300*time.Millisecond)
			w.net.heal()
		})
		if err := w.net.cross(w.ctx, "a", "b"); err != nil || time.Since(began) < 300*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A stream is in order, ends after what was written, and breaks when it is held
// back for longer than its idle time-out.
func TestStream(t *testing.T) {
	bubble(t, func(w *World, a, b *proc) {
		near, far := w.dial(a, b)
		for _, s := range []string{"one ", "two ", "three"} {
			_, _ = io.WriteString(near, s)
		}
		_ = near.Close()
		if got, err := io.ReadAll(far); string(got) != "one two three" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		_ = far.Close()

		near, far = w.dial(a, b)
		w.net.alter(func() { w.net.cut[way{"a", "b"}] = true })
		_, _ = io.WriteString(near, "lost")
		began := time.Now()
		if _, err := far.Read(make([]byte, 8)); !errors.Is(err, errReset) || time.Since(began) != idleTimeout {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		_, _ = near.Close(), far.Close()
	})
}

// A process that stands still sees its clock stand still, and then jump.
func TestFrozenMachine(t *testing.T) {
	bubble(t, func(w *World, a, _ *proc) {
		before := a.now()
		a.host.freeze()
		sleep(w.ctx, time.Minute)
		if d := a.now().Sub(before); d != 0 {
			t.Errorf("its clock went on by %v", d)
		}
		short, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		if w.net.cross(short, "b", "a") == nil || w.net.cross(short, "a", "b") == nil {
			t.Error("something reached it or left it")
		}
		a.host.thaw()
		if d := a.now().Sub(before); d < 59*time.Second {
			t.Errorf("only %v have passed for it", d)
		}
	})
}

// The witnesses can say no.
func TestWitnessesSayNo(t *testing.T) {
	key := protocol.Key{Task: 7, Attempt: 2}
	for want, f := range map[string]func(*World, *proc, *proc){
		"overlap": func(w *World, a, b *proc) {
			w.ledger.begin("a", protocol.Key{Task: 7, Attempt: 1})
			w.ledger.begin("b", key)
		},
		"superseded effect": func(w *World, a, b *proc) {
			w.ledger.begin("b", key)
			w.ledger.finish("b", key, true, 0, "")
			w.ledger.begin("a", protocol.Key{Task: 7, Attempt: 1})
		},
		"log": func(w *World, a, b *proc) {
			_ = w.witness.entry(a, 5, []byte("x"))
			_ = w.witness.entry(b, 5, []byte("y"))
		},
		"two leaders": func(w *World, a, b *proc) { w.witness.leads(a, 3); w.witness.leads(b, 3) },
		"terminal": func(w *World, a, b *proc) {
			w.witness.ended("a", &fsm.TaskView{ID: 7, State: fsm.Succeeded})
			w.witness.ended("b", &fsm.TaskView{ID: 7, State: fsm.Failed})
		},
		"linearizable": func(w *World, a, b *proc) {
			w.book.answered("write", 0, 9)
			w.book.answered("read", w.book.floor(), 8)
		},
		"request": func(w *World, a, b *proc) {
			s := w.book.begin("x", 1)
			w.book.end(s, accepted, fsm.Result{First: 1, Count: 1})
			w.book.end(s, accepted, fsm.Result{First: 2, Count: 1})
		},
		"": func(w *World, a, b *proc) {
			w.ledger.begin("a", key)
			w.ledger.finish("a", key, true, 0, "")
			w.ledger.begin("b", protocol.Key{Task: 7, Attempt: 3})
			w.book.answered("write", 0, 9)
			w.book.answered("read", w.book.floor(), 9)
			w.witness.leads(a, 3)
			w.witness.leads(a, 3)
			_ = w.witness.entry(a, 5, []byte("x"))
			_ = w.witness.entry(b, 5, []byte("x"))
		},
	} {
		bubble(t, func(w *World, a, b *proc) {
			f(w, a, b)
			if got := w.kinds(); got != want {
				t.Errorf("the witnesses say %q, want %q", got, want)
			}
		})
	}
}
