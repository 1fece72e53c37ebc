package check

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"holdfast/chaos/history"
)

// phase is where a task is in its life, as a client can know it.
type phase uint8

const (
	absent phase = iota
	queued
	running // leased to a worker and running look the same from outside
	ended
	gone // forgotten by the cluster
)

// config is the state of the sequential model: what the last operation in the
// order showed, or did, of one task. Between two operations the cluster moves
// the task by itself: it is leased, runs, fails, is lost and waits again,
// expires, succeeds. The model does not guess these steps. It asks whether
// what the next operation shows can be reached by them, which keeps it
// deterministic and the search short.
type config struct {
	phase   phase
	end     string // the terminal state; empty while ended but not yet seen
	attempt int
	index   uint64 // of the last change; 0 is not known
	by      string // the key of the cancel that ended it
}

// input and output are porcupine's.
type input struct {
	op  history.Op
	key string
}

type output struct {
	outcome history.Kind
	code    string
	view    *history.View
}

// step is the model. forget tells whether the cluster may forget what has
// ended.
func modelStep(c config, in input, out output, forget bool) (bool, config) {
	switch in.op {
	case history.Submit, history.Probe:
		if c.phase == absent {
			return true, config{phase: queued}
		}
		return true, c // sent again: nothing happens
	case history.Cancel:
		return cancel(c, in, out, forget)
	}
	if out.view == nil { // a read that was told that there is no such task
		return missing(c, forget)
	}
	return reach(c, out.view)
}

func cancel(c config, in input, out output, forget bool) (bool, config) {
	did := config{phase: ended, end: "cancelled", attempt: c.attempt, by: in.key}
	switch out.outcome {
	case history.OK:
		switch {
		case c.phase == queued || c.phase == running:
		case c.phase == ended && c.end == "cancelled" && c.by == in.key:
			did = c // sent again
		default:
			return false, c
		}
		if out.view == nil {
			return true, did
		}
		return reach(did, out.view)
	case history.Refused:
		if out.code == codeNotFound {
			return missing(c, forget)
		}
		// A conflict: it has ended, by itself or by another cancel.
		switch c.phase {
		case ended:
			return true, c
		case queued, running:
			return true, config{phase: ended, attempt: c.attempt}
		}
		return false, c
	}
	// Unknown: it may have taken effect here. That it had none is the order in
	// which it comes last.
	if c.phase == queued || c.phase == running {
		return true, did
	}
	return true, c
}

// missing is an answer that there is no such task.
func missing(c config, forget bool) (bool, config) {
	if c.phase == absent || c.phase == gone {
		return true, c
	}
	return forget, config{phase: gone}
}

// reach tells whether a task can be as an answer shows it, from c on, by steps
// that no client takes.
func reach(c config, v *history.View) (bool, config) {
	next := config{end: v.State, attempt: v.Attempt, index: v.Index, by: c.by}
	ok := false
	switch {
	case c.phase == absent || c.phase == gone:
	case v.Terminal():
		next.phase = ended
		switch {
		case c.phase != ended:
			// Only a cancel cancels, and it is an operation of its own.
			ok = v.State != "cancelled" && v.Attempt >= c.attempt && (v.Index > c.index || c.index == 0)
		case c.index != 0: // seen before
			ok = v.State == c.end && v.Attempt == c.attempt && v.Index == c.index
		case c.end == "": // known to have ended by itself
			ok = v.State != "cancelled" && v.Attempt >= c.attempt
		default: // cancelled, and not seen since
			ok = v.State == c.end && v.Attempt >= c.attempt
		}
	case c.phase == ended:
	default:
		next.end = ""
		next.phase = queued
		if v.State == "running" {
			next.phase = running
		}
		was, is := place(c.phase, c.attempt), place(next.phase, v.Attempt)
		ok = is > was && (v.Index > c.index || c.index == 0) || is == was && v.Index >= c.index
	}
	if !ok {
		return false, c
	}
	return true, next
}

// place orders what comes before the end: waiting after attempt n, running as
// attempt n+1.
func place(p phase, attempt int) int {
	if p == running {
		return 2*attempt - 1
	}
	return 2 * attempt
}

func model(first config, forget bool) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, in, out any) (bool, any) {
			ok, next := modelStep(state.(config), in.(input), out.(output), forget)
			return ok, next
		},
		DescribeOperation: func(in, out any) string { return describeCall(in.(input), out.(output)) },
		DescribeState:     func(state any) string { return state.(config).String() },
	}
}

func describeCall(in input, out output) string {
	s := string(in.op)
	switch {
	case out.view != nil:
		return s + ": " + describe(out.view)
	case out.code != "":
		return s + ": " + out.code
	case out.outcome == history.Unknown:
		return s + ": unknown"
	}
	return s + ": ok"
}

func (c config) String() string {
	name := [...]string{"absent", "queued", "running", c.end, "forgotten"}[c.phase]
	if c.phase == ended && c.end == "" {
		name = "ended"
	}
	if c.phase == absent || c.phase == gone {
		return name
	}
	s := fmt.Sprintf("%s, attempt %d or later", name, c.attempt)
	if c.index > 0 {
		s = fmt.Sprintf("%s, attempt %d, index %d", name, c.attempt, c.index)
	}
	return s
}
