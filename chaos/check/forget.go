package check

import "holdfast/chaos/history"

// forgetter knows which tasks the cluster may have forgotten: it keeps the
// newest that have ended, a bounded number. A task is forgotten only when more
// than that have ended after it. Those are at most the tasks that were
// submitted after its acknowledgement, and those that were open at that time.
type forgetter struct {
	kept   int
	subs   int // submissions that made a task, or may have
	open   int // the most tasks that any node ever counted as queued and running
	counts bool
}

func newForgetter(j *judge) *forgetter {
	f := &forgetter{kept: j.limits.FinishedKept}
	j.onEnd = append(j.onEnd, func(c *call) {
		if !c.submits() || c.outcome == history.Refused {
			return
		}
		f.subs++
		if l := j.find(c.key, c.task); l.acked == c {
			l.before = f.subs
		}
	})
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind == history.Sample && e.State != nil && !e.State.Down {
			f.counts = true
			f.open = max(f.open, e.State.Queued+e.State.Running)
		}
	})
	return f
}

// may tells whether a task may have been forgotten by now.
func (f *forgetter) may(l *life) bool {
	open := l.before // nobody counted: all that came before it may have been open
	if f.counts {
		open = min(open, f.open)
	}
	return f.subs-l.before+open > f.kept
}
