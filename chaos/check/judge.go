package check

import (
	"fmt"
	"iter"
	"math"
	"time"

	"holdfast/chaos/history"
)

// Options bound a judgement.
type Options struct {
	// Patience bounds the search for linearizations over all tasks; zero is a
	// minute. Tasks beyond it are undecided.
	Patience time.Duration
}

// The shipped defaults of [history.Limits].
const (
	defaultFinishedKept = 100_000
	defaultRemembered   = 262_144
	defaultMaxLost      = 100
	defaultHealthy      = time.Minute
	defaultOperations   = 100
	defaultPatience     = time.Minute
)

// never is the end of an operation that has none.
const never = math.MaxInt64

// call is one operation of a client.
type call struct {
	id             int64
	process        int
	op             history.Op
	node, key      string
	task           string
	stale          bool
	maxAge         int64
	rules          *history.Rules
	phase          history.Phase // at its beginning
	invoked, ended int64
	outcome        history.Kind
	index          uint64
	age            int64
	tasks          []history.View
	cover          *history.Cover
	code, err      string
	// floor is the highest index that its client had seen at its beginning.
	floor uint64
	// writes is how many writes had taken effect, or may have, at its
	// beginning.
	writes int64
}

func (c *call) ok() bool { return c.outcome == history.OK }
func (c *call) write() bool {
	return c.op == history.Submit || c.op == history.Probe || c.op == history.Cancel
}
func (c *call) submits() bool {
	return c.op == history.Submit || c.op == history.Probe
}

// strong tells whether it is a read that must be linearizable.
func (c *call) strong() bool { return !c.write() && !c.stale }

// judge reads the history once and feeds the checkers.
type judge struct {
	run     *history.Run
	limits  history.Limits
	opt     Options
	pending map[int64]*call
	order   []int64 // of pending, by their beginnings
	book
	forget *forgetter
	phase  history.Phase
	begun  map[history.Phase]int64
	now    int64 // time of the last event of the history itself
	writes,
	acked int64
	onInvoke []func(*call)
	onEnd    []func(*call)
	onView   []func(*life, *history.View, *call)
	onEvent  []func(*history.Event)
	verdicts []func() Verdict
}

// Judge reads a history and says what it shows.
func Judge(run *history.Run, events iter.Seq2[*history.Event, error], opt Options) (*Judgement, error) {
	j := &judge{run: run, limits: run.Limits, opt: opt, pending: map[int64]*call{}, begun: map[history.Phase]int64{}, book: newBook()}
	j.defaults()
	j.forget = newForgetter(j)
	gaps := newGaps(j)
	for _, add := range []func(*judge) func() Verdict{
		checkLinear, checkLost, checkRefused, checkOnce, checkTerminal, checkViews, checkRules, checkOverlap,
		checkSuperseded, checkLedger, checkIndex, checkStale, checkHashes, checkLeaders, checkLeaks, checkSecrets,
		gaps.bounds, checkEnds, checkHealthy, checkHealed, checkBit, checkEnough,
	} {
		j.verdicts = append(j.verdicts, add(j))
	}
	for e, err := range events {
		if err != nil {
			return nil, fmt.Errorf("judge the history: %w", err)
		}
		if err := j.see(e); err != nil {
			return nil, fmt.Errorf("judge the history: %w", err)
		}
	}
	for _, id := range j.order { // what nobody was told the end of
		if c := j.pending[id]; c != nil {
			c.outcome, c.err = history.Unknown, "the history ends before it does"
			j.finish(c)
		}
	}
	out := &Judgement{Duration: j.now, Acked: j.acked}
	gaps.measure()
	for _, v := range j.verdicts {
		out.Verdicts = append(out.Verdicts, v())
	}
	out.Faults, out.Failover = gaps.struck, gaps.rows
	return out, nil
}

func (j *judge) defaults() {
	set := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	set(&j.limits.FinishedKept, defaultFinishedKept)
	set(&j.limits.Remembered, defaultRemembered)
	set(&j.limits.MaxLost, defaultMaxLost)
	set(&j.limits.Operations, defaultOperations)
	if j.limits.Healthy == 0 {
		j.limits.Healthy = defaultHealthy
	}
	if j.limits.LateProbes == 0 {
		j.limits.LateProbes = lateProbes
	}
	if j.limits.Silence == 0 {
		j.limits.Silence = longestSilence
	}
	if j.opt.Patience == 0 {
		j.opt.Patience = defaultPatience
	}
}

func (j *judge) see(e *history.Event) error {
	if e.Kind != history.Took { // the ledger has its own order
		j.now = max(j.now, e.At)
	}
	for _, f := range j.onEvent {
		f(e)
	}
	switch e.Kind {
	case history.Invoke:
		return j.invoke(e)
	case history.OK, history.Refused, history.Unknown:
		return j.end(e)
	case history.Enter:
		j.phase = e.Phase
		j.begun[e.Phase] = e.At
	}
	return nil
}

func (j *judge) invoke(e *history.Event) error {
	if j.pending[e.ID] != nil || e.ID == 0 {
		return fmt.Errorf("at %d ns operation %d begins twice, or has no ID", e.At, e.ID)
	}
	c := &call{
		id: e.ID, process: e.Process, op: e.Op, node: e.Node, key: e.Key, task: e.Task, stale: e.Stale, maxAge: e.MaxAge,
		rules: e.Rules, phase: j.phase, invoked: e.At, ended: never, writes: j.writes,
	}
	j.pending[e.ID] = c
	j.order = append(j.order, e.ID)
	for _, f := range j.onInvoke {
		f(c)
	}
	return nil
}

func (j *judge) end(e *history.Event) error {
	c := j.pending[e.ID]
	if c == nil {
		return fmt.Errorf("at %d ns operation %d ends, but it has not begun or ended before", e.At, e.ID)
	}
	c.outcome, c.index, c.age, c.tasks, c.cover, c.code, c.err = e.Kind, e.Index, e.Age, e.Tasks, e.Cover, e.Code, e.Error
	if e.Kind != history.Unknown {
		c.ended = e.At
	}
	if e.Node != "" {
		c.node = e.Node // who answered in the end
	}
	if e.Task != "" {
		c.task = e.Task
	}
	delete(j.pending, e.ID)
	j.compact()
	j.finish(c)
	return nil
}

// compact keeps order as short as what it is the order of.
func (j *judge) compact() {
	if len(j.order) < 1024 || len(j.order) < 2*len(j.pending) {
		return
	}
	kept := j.order[:0]
	for _, id := range j.order {
		if j.pending[id] != nil {
			kept = append(kept, id)
		}
	}
	j.order = kept
}

func (j *judge) finish(c *call) {
	if c.write() && c.outcome != history.Refused {
		j.writes++
		if c.ok() {
			j.acked++
		}
	}
	j.book.note(c)
	for _, f := range j.onEnd {
		f(c)
	}
	// What a submission's answer shows of the task is what its node guessed.
	if !c.ok() || c.submits() {
		return
	}
	for i := range c.tasks {
		v := &c.tasks[i]
		l := j.book.see(v, c)
		for _, f := range j.onView {
			f(l, v, c)
		}
	}
}
