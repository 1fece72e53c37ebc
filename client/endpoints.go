package client

import (
	"sync"
	"time"
)

// badMemory is how long a failed address is passed over while others are
// left: longer than a lost leader takes, shorter than a node's restart.
const badMemory = 2 * time.Second

// endpoints chooses among a cluster's addresses. It stays with the last good
// one, because a connection there is open and warm. Safe for concurrent use.
type endpoints struct {
	now func() time.Time

	mu       sync.Mutex
	addrs    []string
	badUntil []time.Time // by address; zero: good
	current  int
}

func newEndpoints(addrs []string, now func() time.Time) *endpoints {
	return &endpoints{now: now, addrs: addrs, badUntil: make([]time.Time, len(addrs))}
}

// pick returns the address to try next: the current one or, if that failed
// lately, the next that did not; if all did, the one that failed longest ago.
func (e *endpoints) pick() (i int, addr string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, best := e.now(), e.current
	for k := range e.addrs {
		j := (e.current + k) % len(e.addrs)
		if !now.Before(e.badUntil[j]) {
			e.current = j
			return j, e.addrs[j]
		}
		if e.badUntil[j].Before(e.badUntil[best]) {
			best = j
		}
	}
	return best, e.addrs[best]
}

// bad passes over address i for a while.
func (e *endpoints) bad(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.badUntil[i] = e.now().Add(badMemory)
	if e.current == i {
		e.current = (i + 1) % len(e.addrs)
	}
}

// good makes address i the current one.
func (e *endpoints) good(i int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.badUntil[i] = time.Time{}
	e.current = i
}

// anyGood tells whether some address has not failed lately.
func (e *endpoints) anyGood() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for _, t := range e.badUntil {
		if !now.Before(t) {
			return true
		}
	}
	return false
}

// badAddr is bad by address, for a connection that broke after its start.
func (e *endpoints) badAddr(addr string) {
	for i, a := range e.addrs {
		if a == addr {
			e.bad(i)
			return
		}
	}
}
