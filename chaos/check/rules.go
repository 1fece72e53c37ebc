package check

import (
	"strings"
	"time"

	"holdfast/chaos/history"
)

// checkRules: retries and deadlines are those of the spec. No timeout may be
// over before its time has passed since the submission by the history's clock.
// By the cluster's own clock, which is finer, they are only judged while no
// fault moves the clocks of nodes.
func checkRules(j *judge) func() Verdict {
	v := Verdict{
		Check: "retry-and-deadline-rules", Guards: []string{"P2"}, Kind: Safety, Unit: "tasks with known rules whose end was seen",
		Claim: "no task was tried less or more often, or ended earlier, than its spec says",
	}
	moved := false
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		moved = moved || e.Kind == history.Inject && e.Fault != nil && strings.HasPrefix(e.Fault.Type, "clock")
	})
	seen := map[*life]int64{} // the first answer that showed the end
	j.onView = append(j.onView, func(l *life, x *history.View, c *call) {
		if l.rules == nil || !x.Terminal() || l.rules.QueueTimeout == 0 && l.rules.RunTimeout == 0 {
			return
		}
		if at, known := seen[l]; !known || c.ended < at {
			seen[l] = c.ended
		}
	})
	return func() Verdict {
		if moved {
			v.note("clocks were moved: timeouts are judged by the history's clock alone")
		}
		for _, l := range j.lives {
			if l.rules == nil {
				continue
			}
			if end := l.final(); end != nil {
				v.Judged++
				for _, why := range broken(l.rules, end, j.limits.MaxLost, !moved) {
					v.violate(l.read, l, "%s: %s", describe(end), why)
				}
				if why := hasty(l, end, seen[l]); why != "" {
					v.violate(l.read, l, "%s: %s", describe(end), why)
				}
			}
			if moved {
				continue
			}
			for i := 1; i < len(l.views); i++ {
				a, b := l.views[i-1], l.views[i]
				if a.State == "queued" && a.RetryAt > 0 && b.Attempt == a.Attempt+1 && b.Started > 0 && b.Started < a.RetryAt {
					v.violate(l.read, l, "attempt %d began %s before its retry was due", b.Attempt, time.Duration(a.RetryAt-b.Started))
				}
			}
		}
		return v.end("no end of a task with known rules was seen")
	}
}

// hasty tells of a timeout that was over too soon by the history's clock: the
// task was there at the earliest when its first submission was sent. The
// cluster's time may go a tenth faster while it catches up with a clock.
func hasty(l *life, end *history.View, seen int64) string {
	wait := int64(0)
	switch {
	case end.State == "expired":
		wait = l.rules.QueueTimeout
	case end.State == "failed" && end.Reason == "timeout":
		wait = l.rules.RunTimeout
	}
	if passed := seen - l.sentAt; l.sent > 0 && seen > 0 && passed+passed/10 < wait {
		return sprint("it was sent %s before that was seen, and has %s", time.Duration(passed), time.Duration(wait))
	}
	return ""
}

// broken lists the rules that a task's end breaks, those of time only by a
// clock that can be trusted.
func broken(r *history.Rules, end *history.View, maxLost int, clock bool) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, sprint(format, args...)) }
	waited, ran := end.Finished-end.Submitted, end.Finished-end.Started
	if most := r.RetryLimit + 1 + maxLost; end.Attempt > most {
		say("at most %d attempts are possible", most)
	}
	switch end.State {
	case "succeeded":
		if end.Attempt < r.Fails+1 {
			say("it fails %d times before it can succeed", r.Fails)
		}
		if r.Fails > r.RetryLimit {
			say("it fails %d times and may be retried %d times", r.Fails, r.RetryLimit)
		}
	case "expired":
		switch {
		case r.QueueTimeout == 0:
			say("it has no queue timeout")
		case clock && end.Finished > 0 && end.Submitted > 0 && waited < r.QueueTimeout:
			say("it waited %s of %s", time.Duration(waited), time.Duration(r.QueueTimeout))
		}
	case "failed":
		switch end.Reason {
		case "lost", "shutdown":
			if r.OnLost != "fail" && end.Attempt < maxLost {
				say("a task that is lost is retried")
			}
		default:
			if end.Attempt < r.RetryLimit+1 {
				say("it has %d retries", r.RetryLimit)
			}
		}
		if end.Reason == "timeout" {
			switch {
			case r.RunTimeout == 0:
				say("it has no run timeout")
			case clock && end.Started > 0 && end.Finished > 0 && ran < r.RunTimeout:
				say("it ran %s of %s", time.Duration(ran), time.Duration(r.RunTimeout))
			}
		}
	}
	return out
}

// checkEnds: what was accepted comes to an end once the load is over.
func checkEnds(j *judge) func() Verdict {
	v := Verdict{
		Check: "every-task-ends", Guards: []string{"P1"}, Kind: Recovery, Unit: "acknowledged tasks that were read after the load was over",
		Claim: "every acknowledged task had ended when the load was over and all was healed",
	}
	return func() Verdict {
		settled, ok := j.begun[history.Settled]
		for _, l := range j.lives {
			if l.acked == nil || !ok {
				continue
			}
			if l.final() != nil {
				v.Judged++
			} else if l.read >= settled {
				v.Judged++
				v.violate(l.read, l, "still %s", describe(l.views[len(l.views)-1]))
			}
		}
		return v.end("no task was read after the load was over")
	}
}
