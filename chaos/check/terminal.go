package check

import (
	"holdfast/chaos/history"
)

// checkTerminal: a task reaches exactly one terminal state. Every answer
// counts, stale ones too: an end that any node ever showed is for good.
func checkTerminal(j *judge) func() Verdict {
	v := Verdict{
		Check: "one-terminal-state", Guards: []string{"P2"}, Kind: Safety, Unit: "tasks whose end was seen",
		Claim: "no task was seen in two terminal states, or changed after its end",
	}
	j.onView = append(j.onView, func(l *life, x *history.View, c *call) {
		end := l.final()
		if end == nil || !x.Terminal() {
			return
		}
		if x.State != end.State || x.Attempt != end.Attempt || x.Reason != end.Reason || x.Token != end.Token || x.Index != end.Index {
			v.violate(c.ended, l, "%s in one answer and %s in another, by %s", describe(end), describe(x), c.node)
		}
	})
	return func() Verdict {
		for _, l := range j.lives {
			end := l.final()
			if end == nil {
				continue
			}
			v.Judged++
			for _, x := range l.views {
				if !x.Terminal() && x.Index >= end.Index {
					v.violate(l.read, l, "%s, and after that %s", describe(end), describe(x))
				}
			}
		}
		return v.end("no task's end was seen")
	}
}

// checkViews: nodes agree on each task's life. The state at an index is one
// state, so two answers with the same index of a task's last change show the
// same task, and a life that is put together from all answers in the order of
// their indexes goes forward.
func checkViews(j *judge) func() Verdict {
	v := Verdict{
		Check: "one-life-per-task", Guards: []string{"P2", "P9"}, Kind: Safety, Unit: "tasks that were seen more than once",
		Claim: "all nodes showed the same life of each task, and it went forward only",
	}
	seen := map[*life]int{}
	j.onView = append(j.onView, func(l *life, x *history.View, c *call) {
		seen[l]++
		for _, y := range l.views {
			if y.Index == x.Index && !sameView(x, y) {
				v.violate(c.ended, l, "two states at one index: %s and, by %s, %s", describe(y), c.node, describe(x))
			}
		}
	})
	return func() Verdict {
		for _, l := range j.lives {
			if seen[l] > 1 {
				v.Judged++
			}
			for i := 1; i < len(l.views); i++ {
				if a, b := l.views[i-1], l.views[i]; progress(b) < progress(a) {
					v.violate(l.read, l, "it went back from %s to %s", describe(a), describe(b))
				}
			}
		}
		return v.end("no task was seen twice")
	}
}

func sameView(a, b *history.View) bool {
	return a.Task == b.Task && a.State == b.State && a.Attempt == b.Attempt && a.Node == b.Node && a.Reason == b.Reason &&
		a.Started == b.Started && a.Finished == b.Finished && a.Token == b.Token
}

// progress orders a task's states: queued after attempt n, running as attempt
// n+1, and so on to the end.
func progress(v *history.View) int {
	switch {
	case v.Terminal():
		return 1 << 30
	case v.State == "running":
		return 2*v.Attempt - 1
	}
	return 2 * v.Attempt
}
