package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/chaos/history"
)

var nullLogger = hclog.NewNullLogger()

// World is one simulated cluster with its clients, and who watches them.
type World struct {
	cfg     Config
	ctx     context.Context
	stop    context.CancelFunc
	group   sync.WaitGroup
	net     *network
	ledger  *ledger
	witness *witness
	book    *book
	history *recorder
	began   time.Time
	out     io.Writer // of the trace, nil = none
	rng     *rand.Rand

	rngMu sync.Mutex

	mu     sync.Mutex
	hosts  []*host // guarded by mu
	healed bool    // guarded by mu: the time of faults is over

	clients sync.WaitGroup
	leaving sync.WaitGroup // removals under way

	logMu     sync.Mutex
	problems  []Problem      // guarded by logMu
	counts    map[string]int // guarded by logMu
	hash      uint64         // guarded by logMu: of the trace so far
	quiet     bool           // guarded by logMu: the run is over
	processes int            // guarded by logMu
}

// Problem is a promise that was not kept.
type Problem struct {
	Kind string // of check
	Text string
	At   time.Duration // simulated, since the start
}

func (p Problem) String() string {
	return fmt.Sprintf("%s at %v: %s", p.Kind, p.At.Round(time.Millisecond), p.Text)
}

// Result is what a run found.
type Result struct {
	Config   Config
	Problems []Problem
	Counts   map[string]int  // of operations, faults and events
	Spent    time.Duration   // simulated
	Trace    uint64          // a hash over everything that happened, in order
	History  []history.Event // for the checkers of every chaos run
}

func newWorld(cfg Config, out io.Writer) *World {
	w := &World{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 2)), counts: map[string]int{}, began: time.Now(), out: out}
	w.ctx, w.stop = context.WithCancel(context.Background())
	w.net = newNetwork(w.fork(), cfg.Delay, cfg.Spread)
	w.ledger, w.witness, w.book, w.history = newLedger(w), newWitness(w), newBook(w), &recorder{w: w}
	return w
}

// fork makes a source of chance for one part, so that the parts do not disturb
// each other's draws.
func (w *World) fork() *rand.Rand {
	w.rngMu.Lock()
	defer w.rngMu.Unlock()
	return rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64()))
}

// maxProblems: who finds more has seen enough.
const maxProblems = 50

func (w *World) problem(kind, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace("PROBLEM %s: %s", kind, text)
	w.logMu.Lock()
	defer w.logMu.Unlock()
	if len(w.problems) < maxProblems && !w.quiet {
		w.problems = append(w.problems, Problem{kind, text, time.Since(w.began)})
	}
}

func (w *World) count(what string) {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.counts[what]++
}

func (w *World) trace(format string, args ...any) {
	line := fmt.Sprintf("%12.6f ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...)
	w.logMu.Lock()
	defer w.logMu.Unlock()
	if w.quiet {
		return
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", w.hash, line)
	w.hash = h.Sum64()
	if w.out != nil {
		_, _ = fmt.Fprintln(w.out, line)
	}
}

// members are the machines that have been admitted, without one.
func (w *World) members(without string) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.id != without && h.joined && !h.removed {
			ids = append(ids, h.id)
		}
	}
	return ids
}

// hostsNow is a copy of the list of machines that have not left.
func (w *World) hostsNow() []*host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.hosts), func(h *host) bool { return h.removed })
}

func (w *World) mended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.healed
}

// wait polls until a condition holds, at most for limit.
func (w *World) wait(limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); !holds(); {
		if time.Now().After(end) || !sleep(w.ctx, 10*time.Millisecond) {
			return false
		}
	}
	return true
}

type fate uint8

const (
	fateNone fate = iota
	fateTwice
	fateLost
	fateLate
)

// reportFate draws what becomes of a worker's report.
func (w *World) reportFate() fate {
	w.rngMu.Lock()
	x := w.rng.Float64()
	w.rngMu.Unlock()
	for i, p := range w.cfg.Reports {
		if x < p {
			return fate(i) + fateTwice
		}
		x -= p
	}
	return fateNone
}

// outstanding is how many tasks were acknowledged and have not ended: clients
// hold back when they are many, so that the end comes soon.
func (w *World) outstanding() int {
	w.book.mu.Lock()
	acked := len(w.book.acked)
	w.book.mu.Unlock()
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	return acked - len(w.witness.ends)
}

// nextProcess numbers those in the history who do one thing alone.
func (w *World) nextProcess() int {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.processes++
	return 1000 + w.processes
}
