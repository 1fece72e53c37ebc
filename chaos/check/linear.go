package check

import (
	"io"
	"iter"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"holdfast/chaos/history"
)

// mostPatience bounds the search for one task.
const mostPatience = 10 * time.Second

// checkLinear: each task's operations have an order that explains every
// answer, in which each takes effect between its beginning and its end.
// Operations on different tasks touch nothing in common but the index, which
// has a check of its own, so that tasks can be judged one by one.
func checkLinear(j *judge) func() Verdict {
	v := Verdict{
		Check: "linearizable", Guards: []string{"P4"}, Kind: Safety, Unit: "tasks with more than one operation",
		Claim: "every task's submissions, cancels and strong reads have an order that explains all answers",
	}
	return func() Verdict {
		deadline := time.Now().Add(j.opt.Patience)
		operations, undecided := 0, 0
		for _, l := range j.lives {
			if len(l.steps) < 2 {
				continue // one operation is always in order
			}
			if ordered(l.steps) {
				v.Judged++
				operations += len(l.steps)
				if bad := replay(l.steps, j.forget.may(l)); bad != nil {
					v.violate(bad.c.invoked, l, "%s fits nothing that was answered before it began", describeCall(input{bad.c.op, bad.c.key}, output{bad.c.outcome, bad.c.code, bad.v}))
				}
				continue
			}
			left := min(time.Until(deadline), mostPatience)
			if left <= 0 {
				undecided++
				continue
			}
			switch porcupine.CheckOperationsTimeout(model(initial(l.steps), j.forget.may(l)), l.operations(), left) {
			case porcupine.Ok:
				v.Judged++
				operations += len(l.steps)
			case porcupine.Illegal:
				v.Judged++
				v.violate(l.steps[len(l.steps)-1].c.invoked, l, "no order of its %d operations explains all answers", len(l.steps))
			default:
				undecided++
			}
		}
		v.note("%d operations on %d tasks in order", operations, v.Judged)
		if undecided > 0 {
			v.undecided("the search for the order of %d tasks did not end in time", undecided)
		}
		return v.end("no task had more than one operation")
	}
}

// ordered tells whether no two steps were under way at once. Then there is one
// order to try, and no search.
func ordered(steps []step) bool {
	slices.SortStableFunc(steps, func(a, b step) int {
		switch {
		case a.c.invoked < b.c.invoked:
			return -1
		case a.c.invoked > b.c.invoked:
			return 1
		}
		return 0
	})
	for i := 1; i < len(steps); i++ {
		if steps[i-1].c.ended >= steps[i].c.invoked {
			return false
		}
	}
	return true
}

// replay tries the one order and returns the first step that does not fit.
func replay(steps []step, forget bool) *step {
	c := initial(steps)
	for i := range steps {
		s := &steps[i]
		ok, next := modelStep(c, input{s.c.op, s.c.key}, output{s.c.outcome, s.c.code, s.v}, forget)
		if !ok {
			return s
		}
		c = next
	}
	return nil
}

// initial is the state before the first step. A task that nobody is seen to
// submit was there before the history began, or is one whose request nobody is
// seen to have been answered.
func initial(steps []step) config {
	if slices.ContainsFunc(steps, func(s step) bool { return s.c.submits() }) {
		return config{}
	}
	return config{phase: queued}
}

// operations are a task's steps for porcupine. Those without an end may take
// effect at any time after their beginning.
func (l *life) operations() []porcupine.Operation {
	ops := make([]porcupine.Operation, len(l.steps))
	for i, s := range l.steps {
		ops[i] = porcupine.Operation{
			ClientId: s.c.process, Call: s.c.invoked, Return: s.c.ended,
			Input: input{s.c.op, s.c.key}, Output: output{s.c.outcome, s.c.code, s.v},
		}
	}
	return ops
}

// Picture draws the operations of one task and the best order that was found
// for them as a page of HTML. It finds the task by ID or by key.
func Picture(run *history.Run, events iter.Seq2[*history.Event, error], task, key string, w io.Writer) error {
	j := &judge{run: run, limits: run.Limits, pending: map[int64]*call{}, begun: map[history.Phase]int64{}, book: newBook()}
	j.defaults()
	j.forget = newForgetter(j)
	for e, err := range events {
		if err == nil {
			err = j.see(e)
		}
		if err != nil {
			return err
		}
	}
	for _, id := range j.order {
		if c := j.pending[id]; c != nil {
			c.outcome = history.Unknown
			j.finish(c)
		}
	}
	l := j.find(key, task)
	ops := l.operations()
	// What has no end is drawn to the end of the run.
	for i := range ops {
		ops[i].Return = min(ops[i].Return, j.now+1)
	}
	// porcupine draws clients by number, from zero.
	var clients []int
	for i := range ops {
		at := slices.Index(clients, ops[i].ClientId)
		if at < 0 {
			at = len(clients)
			clients = append(clients, ops[i].ClientId)
		}
		ops[i].ClientId = at
	}
	m := model(initial(l.steps), j.forget.may(l))
	_, info := porcupine.CheckOperationsVerbose(m, ops, mostPatience)
	return porcupine.Visualize(m, info, w)
}
