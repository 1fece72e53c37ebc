package consensus

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"sync/atomic"
)

// appliedIndex is the index of the last entry that the state machine has
// applied, with those who wait for it. The library's AppliedIndex is no
// substitute: it moves when an entry is handed over, before it is applied.
//
// A reader that waits costs the apply goroutine nothing until its index is
// reached: next holds the lowest index that anyone waits for.
type appliedIndex struct {
	index atomic.Uint64
	next  atomic.Uint64

	mu   sync.Mutex
	heap waitHeap // guarded by mu
	err  error    // guarded by mu; set once, ends all waiting
}

type waiter struct {
	index uint64
	pos   int // in the heap, -1 when out of it
	done  chan struct{}
}

func newAppliedIndex() *appliedIndex {
	a := &appliedIndex{}
	a.next.Store(math.MaxUint64)
	return a
}

// advance moves the index up; it never goes down. Called from the apply
// goroutine, and once from Open.
func (a *appliedIndex) advance(index uint64) {
	if index <= a.index.Load() {
		return
	}
	a.index.Store(index)
	if index >= a.next.Load() {
		a.mu.Lock()
		a.wakeLocked()
		a.mu.Unlock()
	}
}

// wakeLocked frees everyone whose index is reached and publishes the next one.
// The index is read again after next is stored, and advance reads them in the
// other order: one of the two sees the other.
func (a *appliedIndex) wakeLocked() {
	for {
		for len(a.heap) > 0 && (a.err != nil || a.heap[0].index <= a.index.Load()) {
			w := heap.Pop(&a.heap).(*waiter)
			close(w.done)
		}
		if len(a.heap) == 0 {
			a.next.Store(math.MaxUint64)
			return
		}
		a.next.Store(a.heap[0].index)
		if a.heap[0].index > a.index.Load() {
			return
		}
	}
}

func (a *appliedIndex) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.err = err
	}
	a.wakeLocked()
}

// wait returns when index is applied, ctx ends, or the group has failed.
func (a *appliedIndex) wait(ctx context.Context, index uint64) error {
	if a.index.Load() >= index {
		return nil
	}
	w := &waiter{index: index, done: make(chan struct{})}
	a.mu.Lock()
	heap.Push(&a.heap, w)
	a.wakeLocked()
	a.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		a.mu.Lock()
		if w.pos >= 0 {
			heap.Remove(&a.heap, w.pos)
			a.wakeLocked()
		}
		a.mu.Unlock()
		if a.index.Load() >= index {
			return nil
		}
		return ctx.Err()
	}
	if a.index.Load() >= index {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

type waitHeap []*waiter

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *waitHeap) Push(x any) {
	w := x.(*waiter)
	w.pos = len(*h)
	*h = append(*h, w)
}
func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.pos = -1
	return w
}
