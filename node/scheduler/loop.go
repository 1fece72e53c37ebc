package scheduler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
)

const (
	// A round starts at most this many attempts: few while the cluster is
	// full, so that a look at a long queue stays cheap, and many while there is
	// room. An assignment takes some 70 bytes in the log: at most 70 KiB.
	smallRound = 64
	largeRound = 1024
	// firstClasses and lastClasses bound how many classes a round looks at. It
	// starts with few and looks further only while none of them can be placed,
	// so that a wall of unplaceable classes does not hide one that fits.
	firstClasses = 64
	lastClasses  = 8192

	// After a refused proposal the loop waits: short at first, because most
	// refusals are a queue that empties within a commit or two.
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
	// shortestWait keeps a deadline that the batch's time has not reached yet
	// (it is taken a moment before the timer's) from spinning the loop.
	shortestWait = time.Millisecond
)

// State is what the loop reads; *fsm.State is one.
type State interface {
	PlanView(perClass, classes int) fsm.PlanView
	NextDeadline() (unixNano int64, ok bool)
	Now() int64 // of the last batch, Unix ns
}

// Config is what a Loop needs. State and Propose are required.
type Config struct {
	State State
	// Propose commits commands, waits until they are applied here, and returns
	// their results in order.
	Propose    func(ctx context.Context, commands [][]byte) ([]fsm.Result, error)
	Now        func() time.Time // the clock that stamps batches; nil = time.Now
	Jitter     func() float64   // 0 to 1; nil = math/rand
	Logger     hclog.Logger
	Registerer prometheus.Registerer // nil = no metrics
}

// Loop turns queued tasks into attempts while this node leads.
type Loop struct {
	cfg     Config
	wake    chan struct{} // capacity 1: something changed since the last look
	metrics metrics
}

// NewLoop makes a Loop. It does nothing until Run.
func NewLoop(cfg Config) *Loop {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Loop{cfg: cfg, wake: make(chan struct{}, 1), metrics: newMetrics(cfg.Registerer)}
}

// Notify looks at changes of the state; it never blocks.
func (l *Loop) Notify(changes []fsm.Change) {
	for i := range changes {
		if changes[i].Kind == fsm.ChangeAssigned {
			continue // our own doing; the round that did it looks again anyway
		}
		l.Wake()
		return
	}
}

// Wake makes the loop look at the state again; it never blocks. It is for what
// no change tells of: the report of a superseded attempt frees capacity.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // one wake is enough
	}
}

// Run plans for one office, until ctx ends. It starts with a look at
// everything, because changes from before the office were not told.
func (l *Loop) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	bounds, backoff := Bounds{Tasks: smallRound, Classes: firstClasses}, firstBackoff
	for ctx.Err() == nil {
		begin := l.cfg.Now()
		view := l.cfg.State.PlanView(bounds.Tasks, bounds.Classes)
		plan := Plan(view, bounds)
		l.metrics.planSeconds.Observe(l.cfg.Now().Sub(begin).Seconds())
		if len(plan) == 0 && len(view.Classes) >= bounds.Classes && bounds.Classes < lastClasses && len(view.Workers) > 0 {
			bounds.Classes *= 2
			continue
		}
		bounds = Bounds{Tasks: min(max(2*len(plan), smallRound), largeRound), Classes: firstClasses}

		tick, wait := l.nextTick()
		if len(plan) > 0 || tick {
			err := l.propose(ctx, plan, tick)
			if err == nil {
				backoff = firstBackoff
				continue // what was just applied may leave room for more
			}
			if ctx.Err() != nil {
				return
			}
			l.metrics.failures.Inc()
			l.cfg.Logger.Debug("assignments were not committed, trying again", "error", err, "after", backoff)
			wait = backoff/2 + time.Duration(l.cfg.Jitter()*float64(backoff/2))
			backoff = min(2*backoff, lastBackoff)
			timer.Reset(wait)
			select { // changes do not shorten the pause: they are what overload is made of
			case <-ctx.Done():
			case <-timer.C:
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// nextTick says whether a timer of the state is due, or how long until one is.
// The state's time never runs back, so the later of its time and ours counts.
func (l *Loop) nextTick() (due bool, wait time.Duration) {
	deadline, ok := l.cfg.State.NextDeadline()
	if !ok {
		return false, time.Hour
	}
	left := time.Duration(deadline - max(l.cfg.Now().UnixNano(), l.cfg.State.Now()))
	if left <= 0 {
		return true, 0
	}
	return false, max(min(left, time.Hour), shortestWait)
}

// errNoEffect means that a round was committed and changed nothing.
var errNoEffect = errors.New("the round had no effect on the state")

// propose commits a plan, with a tick before it if one is due, and waits.
func (l *Loop) propose(ctx context.Context, plan []fsm.Assignment, tick bool) error {
	commands := make([][]byte, 0, 2)
	if tick {
		command, err := fsm.NewCommand(fsm.CmdTick, fsm.RequestID{}, "", nil)
		if err != nil {
			return fmt.Errorf("encode a tick: %w", err)
		}
		commands = append(commands, command)
	}
	if len(plan) > 0 {
		command, err := fsm.NewCommand(fsm.CmdAssign, fsm.RequestID{}, "", fsm.Assign{Assignments: plan})
		if err != nil {
			return fmt.Errorf("encode %d assignments: %w", len(plan), err)
		}
		commands = append(commands, command)
	}
	before, _ := l.cfg.State.NextDeadline()
	results, err := l.cfg.Propose(ctx, commands)
	if err != nil {
		return fmt.Errorf("propose %d assignments: %w", len(plan), err)
	}
	if len(results) != len(commands) {
		return fmt.Errorf("propose %d assignments: %d results for %d commands", len(plan), len(results), len(commands))
	}
	if len(plan) > 0 {
		r := results[len(results)-1]
		if r.Code != fsm.OK {
			return fmt.Errorf("the state refused %d assignments (code %d): %s", len(plan), r.Code, r.Detail)
		}
		l.metrics.assigned.Add(float64(r.Count))
		l.metrics.passedOver.Add(float64(len(plan)) - float64(r.Count))
		if r.Count > 0 {
			return nil
		}
	}
	// A round without any effect must not be repeated at once: the plan and the
	// state disagree, or the batch was stamped just before the deadline.
	if after, ok := l.cfg.State.NextDeadline(); tick && (!ok || after != before) {
		return nil
	}
	return errNoEffect
}

type metrics struct {
	planSeconds          prometheus.Histogram
	assigned, passedOver prometheus.Counter
	failures             prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := metrics{
		planSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_scheduler_plan_seconds",
			Help: "Time of one plan.", Buckets: prometheus.ExponentialBuckets(1e-5, 4, 8)}),
		assigned:   counter("holdfast_scheduler_assigned_total", "Attempts started."),
		passedOver: counter("holdfast_scheduler_passed_over_total", "Planned assignments that no longer fitted the state."),
		failures:   counter("holdfast_scheduler_failures_total", "Batches of assignments that were not committed."),
	}
	if reg != nil {
		reg.MustRegister(m.planSeconds, m.assigned, m.passedOver, m.failures)
	}
	return m
}
