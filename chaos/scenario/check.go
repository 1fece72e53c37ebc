package scenario

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxNodes   = 9
	maxClients = 1024
	maxLoad    = 24 * time.Hour
)

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	promiseForm = regexp.MustCompile(`^P([1-9]|1[0-2])$`)
)

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// complete puts the defaults in.
func (s *Scenario) complete() {
	draw := true
	fill(&s.Cluster.Nodes, 3)
	fill(&s.Cluster.DiskMiB, 384)
	fill(&s.Cluster.Draw, &draw)

	w := &s.Workload
	fill(&w.For, 30*sec)
	fill(&w.Clients, 4)
	fill(&w.Rate, 40)
	if len(w.Mix) == 0 {
		w.Mix = map[string]int{"submit": 50, "batch": 5, "get": 20, "stale": 8, "list": 4, "cancel": 5, "wait": 2, "twice": 3, "abandon": 3}
	}
	if len(w.Tasks) == 0 {
		w.Tasks = map[string]int{"cheap": 60, "effect": 20, "long": 8, "flaky": 5, "hopeless": 2, "deadline": 3, "stubborn": 2}
	}
	fill(&w.Prober.Every, Duration(50*time.Millisecond))
	fill(&w.Prober.Timeout, Duration(200*time.Millisecond))

	fill(&s.Steady.For, 2*sec)
	fill(&s.Steady.Within, 60*sec)
	fill(&s.Steady.MinRate, w.Rate/4)
	fill(&s.Steady.MaxError, 0.05)
	fill(&s.Steady.MaxPause, sec)
	fill(&s.Steady.After, 60*sec)

	for i := range s.Schedule {
		completeStep(&s.Schedule[i])
	}
	if r := s.Random; r != nil {
		fill(&r.Every, 5*sec)
		fill(&r.AtOnce, 1)
		for i := range r.Pick {
			fill(&r.Pick[i].Weight, 1)
			completeStep(&r.Pick[i])
		}
	}

	b := &s.Bounds
	fill(&b.NoWrites, 10*sec)
	fill(&b.Recover, 60*sec)
	fill(&b.MinAcknowledged, 20)
	if len(s.Steps()) > 0 {
		fill(&b.MinBites, 1)
	}
	fill(&s.Stop.After, 10*60*sec+2*w.For)
	if len(s.Tiers) == 0 {
		s.Tiers = s.possible()
	}
}

func completeStep(step *Step) {
	if f, ok := Find(step.Fault); ok {
		f.complete(step)
	}
}

// possible are the tiers that have every fault of the scenario.
func (s *Scenario) possible() []Tier {
	tiers := slices.Clone(everywhere)
	for _, step := range s.Steps() {
		f, _ := Find(step.Fault)
		tiers = slices.DeleteFunc(tiers, func(t Tier) bool { return !slices.Contains(f.Tiers, t) })
	}
	return tiers
}

// problem says what is wrong and in which field, or nothing.
func (s *Scenario) problem() (string, error) {
	for _, c := range []struct {
		field string
		bad   bool
		why   string
	}{
		{"name", !nameForm.MatchString(s.Name), fmt.Sprintf("%q: give small letters, digits and hyphens", s.Name)},
		{"about", s.About == "", "say in one sentence what this scenario shows"},
		{"cluster.nodes", s.Cluster.Nodes < 1 || s.Cluster.Nodes > maxNodes, fmt.Sprintf("%d: from 1 to %d", s.Cluster.Nodes, maxNodes)},
		{"cluster.disk_mib", s.Cluster.DiskMiB < 32 || s.Cluster.DiskMiB > 4096, "from 32 to 4096"},
		{"workload.for", s.Workload.For < sec || s.Workload.For.D() > maxLoad, "from 1s to 24h"},
		{"workload.clients", s.Workload.Clients < 1 || s.Workload.Clients > maxClients, fmt.Sprintf("from 1 to %d", maxClients)},
		{"workload.rate", s.Workload.Rate < 0.1 || s.Workload.Rate > 1e6, "from 0.1 to 1000000 operations per second"},
		{"workload.prober.every", s.Workload.Prober.Every < Duration(time.Millisecond), "at least 1ms"},
		{"workload.prober.timeout", s.Workload.Prober.Timeout < Duration(time.Millisecond), "at least 1ms"},
		{"steady.max_error", s.Steady.MaxError < 0 || s.Steady.MaxError > 1, "a share from 0 to 1"},
		{"stop.after", s.Stop.After < s.Workload.For, "the run cannot end before its load does"},
	} {
		if c.bad {
			return c.field, errors.New(c.why)
		}
	}
	for i, p := range s.Guards {
		if !promiseForm.MatchString(p) {
			return fmt.Sprintf("guards[%d]", i), fmt.Errorf("%q is no promise; they are P1 to P12", p)
		}
	}
	for _, weights := range []struct {
		field string
		have  map[string]int
		known []string
	}{{"workload.mix", s.Workload.Mix, Operations}, {"workload.tasks", s.Workload.Tasks, TaskKinds}} {
		if field, err := checkWeights(weights.field, weights.have, weights.known); err != nil {
			return field, err
		}
	}
	for i, step := range s.Schedule {
		if field, err := s.stepProblem(step, s.Workload.For); err != nil {
			return join(fmt.Sprintf("schedule[%d]", i), field), err
		}
		if step.Weight != 0 {
			return fmt.Sprintf("schedule[%d].weight", i), errors.New("only random picks have a weight")
		}
	}
	if field, err := s.randomProblem(); err != nil {
		return join("random", field), err
	}
	return s.tierProblem()
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "." + b
}

func checkWeights(field string, have map[string]int, known []string) (string, error) {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if !slices.Contains(known, name) {
			return field + "." + name, fmt.Errorf("unknown; there are %s", strings.Join(known, ", "))
		}
		if have[name] < 0 {
			return field + "." + name, fmt.Errorf("weight %d is negative", have[name])
		}
		total += have[name]
	}
	if total == 0 {
		return field, errors.New("all weights are 0")
	}
	return "", nil
}

func (s *Scenario) stepProblem(step Step, end Duration) (string, error) {
	f, ok := Find(step.Fault)
	if !ok {
		return "fault", fmt.Errorf("unknown fault %q; see: holdfast chaos list --faults", step.Fault)
	}
	if field, err := f.problem(step); err != nil {
		return field, err
	}
	if step.At < 0 || step.At > end {
		return "at", fmt.Errorf("%s is not within the load's %s", step.At, end)
	}
	if step.On.maxNode() > s.Cluster.Nodes {
		return "on", fmt.Errorf("%s: the cluster has %d nodes", step.On, s.Cluster.Nodes)
	}
	return "", nil
}

// maxNode is the highest node that the target names.
func (t Target) maxNode() int {
	n := t.N
	for _, end := range []*Target{t.A, t.B} {
		if end != nil {
			n = max(n, end.maxNode())
		}
	}
	return n
}

func (s *Scenario) randomProblem() (string, error) {
	r := s.Random
	if r == nil {
		return "", nil
	}
	switch {
	case len(r.Pick) == 0:
		return "pick", errors.New("there is nothing to pick from")
	case r.Every < Duration(10*time.Millisecond):
		return "every", errors.New("at least 10ms")
	case r.Jitter < 0:
		return "jitter", errors.New("it is negative")
	case r.AtOnce < 1 || r.AtOnce > 8:
		return "at_once", errors.New("from 1 to 8")
	}
	for i, p := range r.Pick {
		if field, err := s.stepProblem(p, s.Workload.For); err != nil {
			return join(fmt.Sprintf("pick[%d]", i), field), err
		}
		if p.At != 0 {
			return fmt.Sprintf("pick[%d].at", i), errors.New("a random pick has no time of its own")
		}
		if p.Weight < 1 {
			return fmt.Sprintf("pick[%d].weight", i), errors.New("at least 1")
		}
	}
	return "", nil
}

func (s *Scenario) tierProblem() (string, error) {
	if len(s.Tiers) == 0 {
		return "", errors.New("no tier has all of its faults")
	}
	possible := s.possible()
	for i, t := range s.Tiers {
		field := fmt.Sprintf("tiers[%d]", i)
		switch {
		case !slices.Contains(everywhere, t):
			return field, fmt.Errorf("unknown tier %q; there are sim and live", t)
		case !slices.Contains(possible, t):
			for _, step := range s.Steps() {
				if f, _ := Find(step.Fault); !slices.Contains(f.Tiers, t) {
					return field, fmt.Errorf("tier %s has no fault %s", t, f.Name)
				}
			}
		}
	}
	return "", nil
}
