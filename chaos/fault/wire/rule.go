package wire

import (
	"sync/atomic"
	"time"
)

// Rule is what happens to packets on some ways. Its zero value does nothing.
type Rule struct {
	// Match says which ways it is for, by the names of the hosts.
	Match func(from, to string) bool

	Drop      bool
	Loss      float64 // share that is lost
	Duplicate float64 // share that comes twice
	Corrupt   float64 // share in which a bit flips
	Reorder   float64 // share that is late by ReorderBy
	ReorderBy time.Duration
	Delay     time.Duration
	Jitter    time.Duration // up to so much more
	Kbit      int           // per second and way, with a short queue; 0: any
	MTU       int           // larger packets vanish; 0: any
	// Gate, if set, is asked per packet whether the rule is for it.
	Gate func(Packet) bool
}

// Packet is what a gate sees of a packet.
type Packet struct {
	From, To string
	Size     int
	UDP      bool // else TCP or another
	SrcPort  uint16
	DstPort  uint16
}

// Active is a rule that is set.
type Active struct {
	Rule
	on *Switch

	seen, lost, held, twice, changed atomic.Int64
	free                             map[way]time.Time // when each way's bandwidth is free again; under Switch.mu
}

type way struct{ from, to string }

// Counts are what a rule did.
type Counts struct{ Seen, Lost, Held, Twice, Changed int64 }

// Counts are what the rule did so far.
func (a *Active) Counts() Counts {
	return Counts{a.seen.Load(), a.lost.Load(), a.held.Load(), a.twice.Load(), a.changed.Load()}
}

// Bites is how many packets it struck.
func (c Counts) Bites() int64 { return c.Lost + c.Held + c.Twice + c.Changed }

// Remove takes the rule away. What it held back still comes.
func (a *Active) Remove() { a.on.remove(a) }

// fate is what becomes of one packet.
type fate struct {
	lost   bool
	delay  time.Duration
	copies int
	flips  int
}

// queueTime is the longest queue of a way with little bandwidth.
const queueTime = 400 * time.Millisecond

// apply adds the rule's effect to a packet's fate. The switch's lock is held.
func (a *Active) apply(f *fate, w way, size int, now time.Time, chance func() float64) {
	a.seen.Add(1)
	switch {
	case a.Drop, a.MTU > 0 && size > a.MTU, a.Loss > 0 && chance() < a.Loss:
		a.lost.Add(1)
		f.lost = true
		return
	}
	if a.Corrupt > 0 && chance() < a.Corrupt {
		a.changed.Add(1)
		f.flips++
	}
	if a.Duplicate > 0 && chance() < a.Duplicate {
		a.twice.Add(1)
		f.copies++
	}
	late := a.Delay
	if a.Jitter > 0 {
		late += time.Duration(chance() * float64(a.Jitter))
	}
	if a.Reorder > 0 && chance() < a.Reorder {
		late += a.ReorderBy
	}
	if a.Kbit > 0 {
		begin := a.free[w]
		if begin.Before(now) {
			begin = now
		}
		if begin.Sub(now) > queueTime {
			a.lost.Add(1)
			f.lost = true
			return
		}
		end := begin.Add(time.Duration(size*8) * time.Millisecond / time.Duration(a.Kbit))
		a.free[w] = end
		late += end.Sub(now)
	}
	if late > 0 {
		a.held.Add(1)
		f.delay += late
	}
}
