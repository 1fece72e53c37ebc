package storage

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultStallLimit: far above any healthy fsync (a busy disk's worst is
	// some hundred ms), far below what clients wait for.
	DefaultStallLimit = 2 * time.Second

	// stallSteps splits the limit. A stall is declared after this many timer
	// steps in a row have seen the write in flight, not from one clock reading:
	// a process that was stopped (SIGSTOP, a paused VM) sees all of the lost
	// time in one step, and its disk is not to blame.
	stallSteps = 8
)

// watchdog times every write from outside and remembers the first failure.
//
// The naive design runs the write in a goroutine, waits for the limit, and
// returns an error. Then the write is still under way, raft may retry it, and
// the late one can land on top of what followed. Here the caller stays blocked
// as long as the disk wants; only the report leaves.
type watchdog struct {
	limit    time.Duration
	onStall  func(op string, elapsed time.Duration) (enough bool)
	onFailed func(error)
	observe  func(op string, d time.Duration)
	now      func() time.Time

	latched  atomic.Pointer[error]
	stalled  atomic.Bool
	mu       sync.Mutex
	inFlight map[*write]struct{} // a handful: raft's main and snapshot goroutines
}

type write struct {
	op    string
	start time.Time
	timer *time.Timer
	step  int
	done  bool // by watchdog.mu
}

func newWatchdog(o *Options) *watchdog {
	return &watchdog{
		limit: o.StallLimit, onStall: o.OnStall, onFailed: o.OnFailed, observe: o.Observe,
		now: o.now, inFlight: map[*write]struct{}{},
	}
}

// err returns the failure that latched the store, or nil.
func (w *watchdog) err() error {
	if p := w.latched.Load(); p != nil {
		return *p
	}
	return nil
}

// do runs one write unless the store has latched, and latches on its error.
func (w *watchdog) do(op string, fn func() error) error {
	if err := w.err(); err != nil {
		return err
	}
	wr := w.begin(op)
	err := fn()
	d := w.end(wr)
	if w.observe != nil {
		w.observe(op, d)
	}
	if err != nil {
		return w.fail(fmt.Errorf("%s: %w", op, err))
	}
	return nil
}

// fail latches the store with its first error, reports it once, and returns
// the error that every later call gets.
func (w *watchdog) fail(err error) error {
	err = fmt.Errorf("the store is shut after a failure, restart the node once the disk is sound: %w", err)
	if !w.latched.CompareAndSwap(nil, &err) {
		return w.err()
	}
	if w.onFailed != nil {
		w.onFailed(err)
	}
	return err
}

func (w *watchdog) begin(op string) *write {
	wr := &write{op: op, start: w.now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight[wr] = struct{}{}
	if !w.stalled.Load() {
		wr.timer = time.AfterFunc(w.limit/stallSteps, func() { w.tick(wr) })
	}
	return wr
}

func (w *watchdog) tick(wr *write) {
	w.mu.Lock()
	if wr.done {
		w.mu.Unlock()
		return
	}
	wr.step++
	elapsed := time.Duration(wr.step) * (w.limit / stallSteps) // as the steps have seen it
	w.mu.Unlock()
	if wr.step >= stallSteps && w.declare(wr.op, elapsed) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !wr.done {
		wr.timer.Reset(w.limit / stallSteps)
	}
}

// declare tells of a stall, and reports whether nobody wants to hear more.
func (w *watchdog) declare(op string, elapsed time.Duration) (enough bool) {
	if w.stalled.Load() || w.onStall == nil {
		return true
	}
	if !w.onStall(op, elapsed) {
		return false
	}
	w.stalled.Store(true)
	return true
}

func (w *watchdog) end(wr *write) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wr.done = true
	if wr.timer != nil {
		wr.timer.Stop()
	}
	delete(w.inFlight, wr)
	return w.now().Sub(wr.start)
}

// longest returns how long the oldest write in flight has been under way.
func (w *watchdog) longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var d time.Duration
	now := w.now()
	for wr := range w.inFlight {
		d = max(d, now.Sub(wr.start))
	}
	return d
}
