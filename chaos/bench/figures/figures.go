package figures

import (
	"fmt"
	"math"
	"slices"
	"sync"
)

// Stat is which of a figure's samples is judged.
type Stat string

// The statistics.
const (
	Median Stat = "median"
	P99    Stat = "p99"
	Max    Stat = "max"
	Sum    Stat = "sum"
)

// Bound is on which side of its target a figure should lie.
type Bound string

// The bounds.
const (
	AtLeast  Bound = "at least"
	AtMost   Bound = "at most"
	Reported Bound = "" // no target
)

// Figure is one measured quantity.
type Figure struct {
	ID      string    `json:"id"`
	What    string    `json:"what"`
	Unit    string    `json:"unit,omitempty"` // "x" for ratios
	Stat    Stat      `json:"stat"`
	Bound   Bound     `json:"bound,omitempty"`
	Target  float64   `json:"target,omitempty"`
	Samples []float64 `json:"samples"`
	Notes   []string  `json:"notes,omitempty"`
}

// Value is the judged statistic; false without samples.
func (f *Figure) Value() (float64, bool) {
	if len(f.Samples) == 0 {
		return 0, false
	}
	s := slices.Sorted(slices.Values(f.Samples))
	switch f.Stat {
	case P99:
		return s[min(len(s)-1, int(math.Ceil(0.99*float64(len(s))))-1)], true
	case Max:
		return s[len(s)-1], true
	case Sum:
		sum := 0.0
		for _, v := range s {
			sum += v
		}
		return sum, true
	default:
		if n := len(s); n%2 == 0 {
			return (s[n/2-1] + s[n/2]) / 2, true
		}
		return s[len(s)/2], true
	}
}

// Verdicts.
const (
	Reached     = "reached"
	NotReached  = "not reached"
	NotMeasured = "not measured"
	NoTarget    = "reported"
)

// Verdict compares the figure with its target.
func (f *Figure) Verdict() string {
	v, ok := f.Value()
	switch {
	case !ok:
		return NotMeasured
	case f.Bound == Reported:
		return NoTarget
	case f.Bound == AtLeast && v >= f.Target, f.Bound == AtMost && v <= f.Target:
		return Reached
	}
	return NotReached
}

// Set is every figure of one run, in the order of definition. Safe for
// concurrent use.
type Set struct {
	mu   sync.Mutex
	list []*Figure
}

// Define adds a figure, once per ID.
func (s *Set) Define(list ...Figure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range list {
		if s.find(f.ID) == nil {
			s.list = append(s.list, &f)
		}
	}
}

func (s *Set) find(id string) *Figure {
	for _, f := range s.list {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// Add adds samples to a figure.
func (s *Set) Add(id string, values ...float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.find(id)
	if f == nil {
		return fmt.Errorf("figure %q is not defined", id)
	}
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("figure %q: %v is no sample", id, v)
		}
	}
	f.Samples = append(f.Samples, values...)
	return nil
}

// Note adds a remark to a figure, once.
func (s *Set) Note(id, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	note := fmt.Sprintf(format, args...)
	if f := s.find(id); f != nil && !slices.Contains(f.Notes, note) {
		f.Notes = append(f.Notes, note)
	}
}

// Figures returns copies, in order.
func (s *Set) Figures() []Figure {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Figure, len(s.list))
	for i, f := range s.list {
		out[i] = *f
	}
	return out
}

// Merge adds the samples and notes of figures that were measured elsewhere.
func (s *Set) Merge(list []Figure) error {
	for _, f := range list {
		s.Define(Figure{ID: f.ID, What: f.What, Unit: f.Unit, Stat: f.Stat, Bound: f.Bound, Target: f.Target})
		if err := s.Add(f.ID, f.Samples...); err != nil {
			return err
		}
		for _, n := range f.Notes {
			s.Note(f.ID, "%s", n)
		}
	}
	return nil
}
