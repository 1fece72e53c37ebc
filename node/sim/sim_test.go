package sim

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/chaos/check"
	"holdfast/chaos/history"
)

var (
	simSeeds   = flag.Int("sim.seeds", 0, "run so many seeds, from sim.from on")
	simSeconds = flag.Float64("sim.seconds", 0, "look for faults with new seeds for so long")
	simSeed    = flag.Uint64("sim.seed", 0, "run this seed alone")
	simFrom    = flag.Uint64("sim.from", 0, "the first seed (0: a new one)")
	simSpan    = flag.Duration("sim.span", 30*time.Second, "the simulated time of faults in one run")
	simTrace   = flag.Bool("sim.trace", false, "print everything that happens")
	simVerbose = flag.Bool("sim.v", false, "print each run's figures")
)

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, cfg Config, out io.Writer) (r Result) {
	synctest.Test(t, func(*testing.T) { r = Run(cfg, out) })
	return judged(t, r)
}

// judged adds what the checkers of every chaos run say of the history. It is
// outside of the bubble: their patience is real time.
func judged(t *testing.T, r Result) Result {
	t.Helper()
	events := func(yield func(*history.Event, error) bool) {
		for i := range r.History {
			if !yield(&r.History[i], nil) {
				return
			}
		}
	}
	j, err := check.Judge(r.Config.History(), events, check.Options{Patience: 20 * time.Second})
	if err != nil {
		t.Fatalf("seed %d: %v", r.Config.Seed, err)
	}
	for _, v := range j.Verdicts {
		// The state's time follows a leader's clock that jumps forward, so that
		// timeouts of tasks are then over too soon.
		if v.Check == "retry-and-deadline-rules" && r.Counts["fault: clock"] > 0 {
			continue
		}
		// What is late or missing is judged by the simulation itself, which
		// knows what it broke.
		if v.Kind != check.Safety || v.Outcome != check.Violated {
			if v.Outcome == check.Held {
				r.Counts["held: "+v.Check] = int(v.Judged)
			}
			continue
		}
		for _, x := range v.Violations {
			r.Problems = append(r.Problems, Problem{v.Check, x.Task + " " + x.Text, time.Duration(x.At)})
		}
	}
	return r
}

func report(r Result) string {
	var names []string
	for name := range r.Counts {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%d", strings.ReplaceAll(name, " ", "_"), r.Counts[name])
	}
	return b.String()
}

// usualSeeds is how many seeds TestSimulation runs when it is not told. Seed 4
// meets the open fault that docs/chaos.md names, in one run of twenty or so.
const usualSeeds = 3

// TestSimulation runs seeds: a few known ones, or those that it is told.
//
// guards P1, P2, P3, P4, P9, P10, P12
func TestSimulation(t *testing.T) {
	var out io.Writer
	if *simTrace {
		out = os.Stderr
	}
	first := *simFrom
	if first == 0 {
		first = uint64(time.Now().UnixMilli())
	}
	seeds := *simSeeds
	switch {
	case *simSeed != 0:
		first, seeds = *simSeed, 1
	case seeds == 0 && *simSeconds == 0: // in the usual tests nothing is left to chance
		first, seeds = 1, usualSeeds
	}
	began, spent, ran := time.Now(), time.Duration(0), 0
	for ; seeds > 0 && ran < seeds || seeds == 0 && time.Since(began).Seconds() < *simSeconds; ran++ {
		cfg := Draw(first+uint64(ran), *simSpan)
		r := simulate(t, cfg, out)
		spent += r.Spent
		if *simVerbose {
			fmt.Printf("%v\n  trace %016x, %v simulated,%s\n", cfg, r.Trace, r.Spent.Round(time.Millisecond), report(r))
		}
		if len(r.Problems) == 0 {
			continue
		}
		for _, p := range r.Problems {
			t.Errorf("%v", p)
		}
		t.Errorf("%v\nrepeat it: go test ./node/sim -run 'TestSimulation$' -sim.seed %d -sim.span %v", cfg, cfg.Seed, *simSpan)
	}
	t.Logf("%d seeds, %v simulated in %v", ran, spent.Round(time.Second), time.Since(began).Round(time.Millisecond))
}

// Seeds that have found something are run again.
func TestKnownSeeds(t *testing.T) {
	file, err := os.ReadFile("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for line := range strings.Lines(string(file)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		seed, err1 := strconv.ParseUint(fields[0], 10, 64)
		span, err2 := time.ParseDuration(fields[1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ran++
		for _, p := range simulate(t, Draw(seed, span), nil).Problems {
			t.Errorf("seed %d: %v", seed, p)
		}
	}
	if ran == 0 {
		t.Error("no seed was read")
	}
}

// The layout of time.Time that clock.go writes is package time's own.
func TestTimeWithMonotonicPart(t *testing.T) {
	wall := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	a := withMonotonic(wall.UnixNano(), int64(5*time.Second))
	b := withMonotonic(wall.Add(time.Hour).UnixNano(), int64(6*time.Second))
	if !a.Equal(wall) || a.UnixNano() != wall.UnixNano() {
		t.Errorf("the wall clock shows %v, want %v", a, wall)
	}
	if d := b.Sub(a); d != time.Second {
		t.Errorf("%v between two readings of the monotonic clock, want 1s", d)
	}
	if d := b.Round(0).Sub(a.Round(0)); d != time.Hour {
		t.Errorf("%v between two readings of the wall clock, want 1h", d)
	}
	if !strings.Contains(a.String(), "m=+") {
		t.Errorf("%v has no monotonic part", a)
	}
}
