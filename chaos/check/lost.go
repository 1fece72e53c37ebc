package check

import (
	"holdfast/chaos/history"
)

// checkLost: an acknowledged submission is never lost. Every strong read that
// begins after the acknowledgement must know the task: a get of it by its ID,
// and a list that covers its number. A submission that no such read was about
// proves nothing.
func checkLost(j *judge) func() Verdict {
	v := Verdict{
		Check: "acknowledged-never-lost", Guards: []string{"P1"}, Kind: Safety, Unit: "acknowledged submissions",
		Claim: "every submission that was acknowledged was there in every strong read that began later",
	}
	var acked []*life // in the order of their acknowledgements
	numbered := map[uint64]*life{}
	highest := uint64(0)
	j.onEnd = append(j.onEnd, func(c *call) {
		if c.submits() && c.ok() {
			if l := j.find(c.key, c.task); l.acked == c {
				acked = append(acked, l)
				if n := number(l.task); n > 0 {
					numbered[n], highest = l, max(highest, n)
				}
			}
		}
		if !c.strong() {
			return
		}
		switch {
		case c.outcome == history.Refused && c.code == codeNotFound:
			l := j.find("", c.task)
			if l.acked != nil && l.acked.ended < c.invoked && !j.forget.may(l) {
				v.violate(c.ended, l, "acknowledged by %s at %s, unknown to %s in a strong read that began at %s", l.acked.node, at(l.acked.ended), c.node, at(c.invoked))
			}
		case c.ok() && c.cover != nil:
			shown := make(map[string]bool, len(c.tasks))
			for i := range c.tasks {
				shown[c.tasks[i].Task] = true
			}
			to := highest
			if c.cover.To != 0 {
				to = min(to, c.cover.To)
			}
			for n := c.cover.From; n <= to; n++ {
				l := numbered[n]
				if l == nil {
					continue
				}
				if l.acked.ended < c.invoked && !shown[l.task] && !j.forget.may(l) {
					v.violate(c.ended, l, "acknowledged by %s at %s, not in a strong list by %s that began at %s and covers it", l.acked.node, at(l.acked.ended), c.node, at(c.invoked))
				}
			}
		}
	})
	return func() Verdict {
		unread := 0
		for _, l := range acked {
			if l.read > l.acked.ended {
				v.Judged++
			} else {
				unread++
			}
		}
		lost := v.Count
		if unread > 0 && lost == 0 {
			v.undecided("%d of %d acknowledged submissions were in no strong read that began later", unread, len(acked))
		}
		if lost == 0 && v.Judged > 0 {
			v.note("0 of %d lost: with 95 %% confidence fewer than %.2g of all are (3/n)", v.Judged, 3/float64(v.Judged))
		}
		return v.end("no submission was acknowledged")
	}
}

// checkRefused: what was refused has no effect. Keys are the names of tasks,
// so that a read, or the ledger, shows a task that nobody was to have made.
func checkRefused(j *judge) func() Verdict {
	v := Verdict{
		Check: "refused-has-no-effect", Guards: []string{"P10"}, Kind: Safety, Unit: "refused submissions",
		Claim: "no submission whose every sending was refused made a task",
	}
	return func() Verdict {
		for _, l := range j.lives {
			if l.sent == 0 || l.refused < l.sent {
				continue
			}
			v.Judged++
			switch {
			case len(l.views) > 0:
				x := l.views[0]
				v.violate(0, l, "every sending was refused, but task %s is %s", x.Task, x.State)
			case len(l.tokens) > 0:
				v.violate(l.tokens[0].at, l, "every sending was refused, but attempt %s took effect", l.tokens[0].name)
			}
		}
		return v.end("no submission was refused")
	}
}

// checkOnce: a request takes effect once, however often it is sent.
func checkOnce(j *judge) func() Verdict {
	v := Verdict{
		Check: "request-takes-effect-once", Guards: []string{"P2"}, Kind: Safety, Unit: "requests that were sent more than once",
		Claim: "no request that was sent again under its key made a second task",
	}
	type sending struct {
		task   string
		writes int64 // before the first
	}
	first := map[string]sending{}
	seen := func(key, task string, at, writes int64) {
		if key == "" || task == "" {
			return
		}
		was, known := first[key]
		switch {
		case !known:
			first[key] = sending{task, writes}
		case was.task != task && writes-was.writes < int64(j.limits.Remembered):
			v.violate(at, j.byTask[task], "the request %s made both %s and %s", key, was.task, task)
		}
	}
	j.onEnd = append(j.onEnd, func(c *call) {
		if c.submits() && c.ok() {
			seen(c.key, c.task, c.ended, c.writes)
		}
	})
	j.onView = append(j.onView, func(_ *life, x *history.View, c *call) { seen(x.Key, x.Task, c.ended, c.writes) })
	return func() Verdict {
		for _, l := range j.lives {
			if l.oks+l.unknown > 1 {
				v.Judged++
			}
		}
		return v.end("no request was sent twice such that both might have taken effect")
	}
}
