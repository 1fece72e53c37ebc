package scenario

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Plan is the schedule under a seed: the fixed steps, and those that Random
// drew, in the order of their beginnings. The same scenario and seed give the
// same plan.
func (s *Scenario) Plan(seed uint64) []Step {
	out := slices.Clone(s.Schedule)
	if r := s.Random; r != nil {
		rng := rand.New(rand.NewPCG(seed, 0x706c616e))
		out = append(out, r.draw(rng, s.Workload.For.D())...)
	}
	slices.SortStableFunc(out, func(a, b Step) int { return int(a.At - b.At) })
	return out
}

// Lasting changes the length of the part with faults. Steps that would not be
// over by then are left out, and no more faults need to bite than are left.
func (s *Scenario) Lasting(length Duration) {
	s.Stop.After += 2 * max(0, length-s.Workload.For)
	s.Workload.For = length
	s.Schedule = slices.DeleteFunc(slices.Clone(s.Schedule), func(step Step) bool { return step.At+step.For > length })
	s.Bounds.MinBites = min(s.Bounds.MinBites, len(s.Plan(1)))
}

func (r *Random) draw(rng *rand.Rand, length time.Duration) []Step {
	total := 0
	for _, p := range r.Pick {
		total += p.Weight
	}
	busy := make([]time.Duration, r.AtOnce) // until when each place is taken
	var out []Step
	for at := r.Every.D(); ; at += r.Every.D() {
		begin := at
		if r.Jitter > 0 {
			begin += time.Duration(rng.Int64N(int64(r.Jitter)))
		}
		n := rng.IntN(total)
		step := r.Pick[0]
		for _, p := range r.Pick {
			if n -= p.Weight; n < 0 {
				step = p
				break
			}
		}
		place := 0
		for i, t := range busy {
			if t < busy[place] {
				place = i
			}
		}
		begin = max(begin, busy[place])
		if begin+step.For.D() > length {
			return out
		}
		busy[place] = begin + step.For.D()
		at = max(at, begin-r.Jitter.D())
		step.At = Duration(begin)
		out = append(out, step)
	}
}

// Steps are all steps that the scenario may take, fixed and drawn.
func (s *Scenario) Steps() []Step {
	out := slices.Clone(s.Schedule)
	if s.Random != nil {
		out = append(out, s.Random.Pick...)
	}
	return out
}

// Needs are what the live tier must have, sorted.
func (s *Scenario) Needs() []Need {
	var out []Need
	for _, step := range s.Steps() {
		f, _ := Find(step.Fault)
		out = append(out, f.Needs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Has reports whether the scenario runs on a tier.
func (s *Scenario) Has(t Tier) bool { return slices.Contains(s.Tiers, t) }
