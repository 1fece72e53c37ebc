package workload

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/chaos/history"
)

// Target is one node of the cluster.
type Target struct {
	Name string // in the history
	ID   string // as the cluster calls it
	Addr string
}

// Config says what to load and how.
type Config struct {
	Nodes  []Target
	Token  string
	CAPin  string
	Writer *history.Writer
	Seed   uint64

	Clients int            // default 4
	Rate    float64        // operations per second of all clients together; default 40
	Mix     map[string]int // weights by operation, see Operations; default DefaultMix
	Tasks   map[string]int // weights by kind, see Kinds; default DefaultTasks
	Batch   int            // tasks of one batch; default 10
	// Name begins the keys of this run's requests, so that two runs on one
	// cluster do not meet. Default "c".
	Name string
	// Ledger is where tasks write their effects; nil has only tasks that have
	// none.
	Ledger *Ledger

	// Canary is a secret that tasks are given in every way that there is, so
	// that a search of the disks can find what lies there in clear. Empty gives
	// them none.
	Canary string
	// Host, if set, tells what a node holds of its host, nil if that cannot be
	// seen. See Look.
	Host func(node string) *history.Counts

	Timeout time.Duration // of one try of a call; default 2 s
	Give    time.Duration // after which a client gives a call up; default 10 s

	ProbeEvery   time.Duration // default 50 ms; negative is no prober
	ProbeTimeout time.Duration // default 200 ms
	SweepEvery   time.Duration // default 5 s
	SampleEvery  time.Duration // default 500 ms
}

// Operations are what clients do, by the names of Mix.
var Operations = []string{"submit", "batch", "get", "stale", "list", "cancel", "wait", "twice", "abandon"}

// DefaultMix is used where Mix is empty.
var DefaultMix = map[string]int{"submit": 50, "batch": 5, "get": 20, "stale": 8, "list": 4, "cancel": 5, "wait": 2, "twice": 3, "abandon": 3}

// DefaultTasks is used where Tasks is empty.
var DefaultTasks = map[string]int{"cheap": 60, "effect": 20, "long": 8, "flaky": 5, "hopeless": 2, "deadline": 3, "stubborn": 2}

func (c Config) withDefaults() (Config, error) {
	if len(c.Nodes) == 0 || c.Writer == nil {
		return c, errors.New("workload: needs nodes and a history to write to")
	}
	if len(c.Mix) == 0 {
		c.Mix = DefaultMix
	}
	if len(c.Tasks) == 0 {
		c.Tasks = DefaultTasks
	}
	if c.Ledger == nil {
		c.Tasks = map[string]int{"cheap": 1}
	}
	if err := known("operation", c.Mix, Operations); err != nil {
		return c, err
	}
	if err := known("kind of task", c.Tasks, Kinds); err != nil {
		return c, err
	}
	if c.Clients == 0 {
		c.Clients = 4
	}
	if c.Rate == 0 {
		c.Rate = 40
	}
	if c.Batch == 0 {
		c.Batch = 10
	}
	if c.Name == "" {
		c.Name = "c"
	}
	if strings.ContainsAny(c.Name, " \n.") {
		return c, fmt.Errorf("workload: name %q: the ledger wants it without spaces and dots", c.Name)
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{
		{&c.Timeout, 2 * time.Second}, {&c.Give, 10 * time.Second},
		{&c.ProbeEvery, 50 * time.Millisecond}, {&c.ProbeTimeout, 200 * time.Millisecond},
		{&c.SweepEvery, 5 * time.Second}, {&c.SampleEvery, 500 * time.Millisecond},
	} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	return c, nil
}

func known(what string, weights map[string]int, names []string) error {
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if !slices.Contains(names, name) || weights[name] < 0 {
			return fmt.Errorf("workload: %s %q with weight %d: want a weight of 0 or more for one of %s", what, name, weights[name], strings.Join(names, ", "))
		}
		sum += weights[name]
	}
	if sum == 0 {
		return fmt.Errorf("workload: no %s has a weight above 0", what)
	}
	return nil
}

// choice draws names by their weights.
type choice struct {
	names []string
	upto  []int
}

func choose(weights map[string]int) choice {
	var c choice
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if weights[name] > 0 {
			sum += weights[name]
			c.names, c.upto = append(c.names, name), append(c.upto, sum)
		}
	}
	return c
}

// draw takes a random number source of [0, n).
func (c choice) draw(intn func(int) int) string {
	n := intn(c.upto[len(c.upto)-1])
	for i, upto := range c.upto {
		if n < upto {
			return c.names[i]
		}
	}
	panic("unreachable: n is below the last of upto")
}
