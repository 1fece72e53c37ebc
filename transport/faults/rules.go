package faults

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Direction is seen from the node whose socket is wrapped.
type Direction uint8

// The directions.
const (
	Out Direction = iota + 1
	In
)

// Everyone is the peer of a rule for all peers that have no rule of their own
// in that direction.
const Everyone = "*"

// Rule says what happens to the packets of one peer in one direction. The zero
// Rule lets everything pass.
type Rule struct {
	// Cut loses every packet. Cut in one direction alone is the fault that
	// breaks many protocols.
	Cut bool
	// Drop is the probability that a packet is lost, 0 to 1.
	Drop float64
	// Delay holds every packet back, by Delay plus 0 to Jitter. Jitter alone
	// reorders packets that are closer together.
	Delay, Jitter time.Duration
	// Duplicate is the probability that a packet arrives twice.
	Duplicate float64
	// Reorder is the probability that a packet is held back by ReorderBy
	// (default 5 ms) so that later ones overtake it.
	Reorder   float64
	ReorderBy time.Duration
	// BytesPerSecond limits the rate; 0 is no limit. At most maxQueueTime of
	// packets wait, later ones are lost, as in a router's queue.
	BytesPerSecond int64
}

const (
	defaultReorderBy = 5 * time.Millisecond
	maxQueueTime     = 500 * time.Millisecond
)

// Stats counts packets since New.
type Stats struct {
	Passed, Dropped, Delayed, Duplicated uint64
}

type ruleKey struct {
	peer string
	dir  Direction
}

// Net holds the rules of one node. Safe for concurrent use.
type Net struct {
	now func() time.Time

	mu    sync.Mutex
	rng   *rand.Rand
	rules map[ruleKey]Rule
	free  map[ruleKey]time.Time // when a throttled link is idle again
	stats Stats
}

// New makes a Net without rules. now is nil for time.Now.
func New(seed uint64, now func() time.Time) *Net {
	if now == nil {
		now = time.Now
	}
	return &Net{now: now, rng: rand.New(rand.NewPCG(seed, 0)), rules: map[ruleKey]Rule{}, free: map[ruleKey]time.Time{}}
}

// Set replaces the rule for a peer ("host:port", or Everyone) in a direction.
// It holds for the next packet on; packets that are held back still arrive.
func (n *Net) Set(peer string, dir Direction, r Rule) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rules[ruleKey{peer, dir}] = r
}

// Clear removes the rule for a peer in a direction.
func (n *Net) Clear(peer string, dir Direction) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.rules, ruleKey{peer, dir})
	delete(n.free, ruleKey{peer, dir})
}

// Heal removes every rule.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.rules)
	clear(n.free)
}

// Stats returns the counters.
func (n *Net) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stats
}

// decide returns the delay of each copy of a packet that is to arrive; none if
// it is lost.
func (n *Net) decide(peer string, dir Direction, size int) []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.rules[ruleKey{peer, dir}]
	if !ok {
		r, ok = n.rules[ruleKey{Everyone, dir}]
	}
	if !ok {
		n.stats.Passed++
		return []time.Duration{0}
	}
	if r.Cut || n.chance(r.Drop) {
		n.stats.Dropped++
		return nil
	}
	d := r.Delay
	if r.Jitter > 0 {
		d += time.Duration(n.rng.Int64N(int64(r.Jitter) + 1))
	}
	if n.chance(r.Reorder) {
		by := r.ReorderBy
		if by == 0 {
			by = defaultReorderBy
		}
		d += by
	}
	wait, ok := n.throttle(ruleKey{peer, dir}, r.BytesPerSecond, size)
	if !ok {
		n.stats.Dropped++
		return nil
	}
	d += wait
	n.stats.Passed++
	if d > 0 {
		n.stats.Delayed++
	}
	if n.chance(r.Duplicate) {
		n.stats.Duplicated++
		return []time.Duration{d, d}
	}
	return []time.Duration{d}
}

func (n *Net) chance(p float64) bool { return p > 0 && n.rng.Float64() < p }

func (n *Net) throttle(k ruleKey, rate int64, size int) (time.Duration, bool) {
	if rate <= 0 {
		return 0, true
	}
	now := n.now()
	at := n.free[k]
	if at.Before(now) {
		at = now
	}
	wait := at.Sub(now)
	if wait > maxQueueTime {
		return 0, false
	}
	n.free[k] = at.Add(time.Duration(int64(size) * int64(time.Second) / rate))
	return wait, true
}

// lost draws whether a packet without content worth delaying is lost.
func (n *Net) lost(peer string, dir Direction, size int) bool {
	return len(n.decide(peer, dir, size)) == 0
}
