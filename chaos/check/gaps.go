package check

import (
	"math"
	"slices"
	"time"

	"holdfast/chaos/history"
)

// aftermath is how long after its heal a fault is still answerable for a
// pause: a healed node that comes back can disturb a cluster, too.
const aftermath = 5 * time.Second

// Row is a line of the failover table: the times without an acknowledged
// write, by kind of fault.
type Row struct {
	Fault    string          `json:"fault"`
	N        int             `json:"n"`
	P50      time.Duration   `json:"p50_ns"`
	P99      time.Duration   `json:"p99_ns"`
	Max      time.Duration   `json:"max_ns"`
	BoundP99 time.Duration   `json:"bound_p99_ns,omitempty"`
	BoundMax time.Duration   `json:"bound_max_ns,omitempty"`
	Outcome  Outcome         `json:"outcome"`
	Gaps     []time.Duration `json:"gaps_ns"`
}

// gaps measures how long clients went without an acknowledged write after each
// fault, whichever node they asked.
type gaps struct {
	j      *judge
	faults *[]*Struck
	acks   []int64 // times of acknowledgements, in order
	asked  int64   // when the last write was sent: later nothing can be acknowledged
	struck []Struck
	rows   []Row
	alone  map[string]int // faults of a kind that no other was beside
}

func newGaps(j *judge) *gaps {
	g := &gaps{j: j, faults: newFaults(j), alone: map[string]int{}}
	j.onInvoke = append(j.onInvoke, func(c *call) {
		if c.write() {
			g.asked = c.invoked
		}
	})
	j.onEnd = append(j.onEnd, func(c *call) {
		if c.write() && c.ok() {
			g.acks = append(g.acks, c.ended)
		}
	})
	return g
}

// measure fills struck and rows, once the history is read.
func (g *gaps) measure() {
	list := *g.faults
	byKind := map[string][]time.Duration{}
	var kinds []string
	for i, f := range list {
		for k, other := range list {
			if k != i && other.Injected < end(f) && f.Injected < end(other) {
				f.Beside = append(f.Beside, other.ID)
			}
		}
		f.Gap = g.gap(f, g.window(i))
		g.struck = append(g.struck, *f)
		if f.Gap < 0 {
			continue
		}
		kind := f.Fault.Type
		if byKind[kind] == nil {
			kinds = append(kinds, kind)
		}
		byKind[kind] = append(byKind[kind], f.Gap)
		if len(f.Beside) == 0 {
			g.alone[kind]++
		}
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		all := byKind[kind]
		sorted := slices.Sorted(slices.Values(all))
		r := Row{Fault: kind, N: len(all), P50: quantile(sorted, 0.5), P99: quantile(sorted, 0.99), Max: sorted[len(sorted)-1], Gaps: all, Outcome: NotExercised}
		if b := g.bound(kind); b != nil {
			r.BoundP99, r.BoundMax, r.Outcome = b.P99, b.Max, Held
			if b.P99 > 0 && r.P99 > b.P99 || b.Max > 0 && r.Max > b.Max {
				r.Outcome = Violated
			}
		}
		g.rows = append(g.rows, r)
	}
}

func end(f *Struck) int64 {
	if f.Heal == 0 {
		return math.MaxInt64
	}
	return f.Heal
}

// window is when the i-th fault's answer ends: some time after its heal, or
// when the next fault begins if that is earlier, but never before its heal.
func (g *gaps) window(i int) int64 {
	f := (*g.faults)[i]
	if f.Heal == 0 {
		return math.MaxInt64
	}
	until := max(f.Heal, f.Healed) + int64(aftermath)
	for _, other := range *g.faults {
		if other.Injected > f.Injected {
			until = min(until, max(other.Injected, f.Heal))
		}
	}
	return until
}

// gap is the longest time without an acknowledgement that begins in the
// fault's window, counted from the fault at the earliest.
func (g *gaps) gap(f *Struck, until int64) time.Duration {
	from := f.Injected
	if f.Fault.NoQuorum {
		if f.Heal == 0 {
			return -1
		}
		from = f.Heal
	}
	if len(g.acks) == 0 {
		return -1
	}
	until = min(until, g.j.now)
	i, _ := slices.BinarySearch(g.acks, from)
	longest, last := int64(0), from
	for ; i < len(g.acks); i++ {
		longest = max(longest, g.acks[i]-last)
		if last = g.acks[i]; last >= until {
			return time.Duration(longest)
		}
	}
	// Nothing more was acknowledged: that is a pause as long as somebody asked.
	return time.Duration(max(longest, g.asked-last))
}

func (g *gaps) bound(kind string) *history.Bound {
	var any *history.Bound
	for i := range g.j.run.Bounds {
		switch b := &g.j.run.Bounds[i]; b.Fault {
		case kind:
			return b
		case "*":
			any = b
		}
	}
	return any
}

// quantile is the nearest rank: a time that was measured.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// bounds is the check of the table's bounds.
func (g *gaps) bounds(*judge) func() Verdict {
	v := Verdict{
		Check: "bounds", Guards: []string{"P5"}, Kind: Bounded, Unit: "faults with a bound",
		Claim: "after each fault the next write was acknowledged within the scenario's bounds",
	}
	return func() Verdict {
		for _, r := range g.rows {
			line := sprint("%s: n = %d, p50 %s, p99 %s, max %s", r.Fault, r.N, ms(r.P50), ms(r.P99), ms(r.Max))
			if r.N < 100 {
				line += " (with n < 100 the p99 is the maximum)"
			}
			v.Evidence = append(v.Evidence, line)
			if r.Outcome == NotExercised {
				continue
			}
			v.Judged += int64(r.N)
			if r.BoundP99 > 0 && r.P99 > r.BoundP99 {
				v.add(Violation{Text: sprint("%s: p99 of %d is %s, at most %s is allowed", r.Fault, r.N, ms(r.P99), ms(r.BoundP99))})
			}
			if r.BoundMax > 0 && r.Max > r.BoundMax {
				v.add(Violation{Text: sprint("%s: the longest of %d is %s, at most %s is allowed", r.Fault, r.N, ms(r.Max), ms(r.BoundMax))})
			}
		}
		return v.end("no fault that has a bound was measured")
	}
}
