package check

import (
	"time"

	"holdfast/chaos/history"
)

// checkOverlap: at most one attempt of a task runs at a time. The ledger is a
// file that all attempts append to: once an attempt has written, no earlier
// one may.
func checkOverlap(j *judge) func() Verdict {
	v := Verdict{
		Check: "no-overlap-of-attempts", Guards: []string{"P3"}, Kind: Safety, Unit: "tasks with two attempts or more in the ledger",
		Claim: "no attempt took effect after a later one of the same task had begun",
	}
	effects, last, unsure := int64(0), int64(0), false
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Took || e.Effect == nil {
			return
		}
		effects++
		unsure = unsure || e.Effect.Seq <= last
		last = e.Effect.Seq
		l := j.find(e.Key, e.Task)
		newest := len(l.tokens) - 1
		i := l.token(e)
		if i < newest {
			v.violate(e.At, l, "attempt %s (the %d. in the ledger) took effect in line %d, but attempt %s had begun in line %d",
				e.Effect.Token, i+1, e.Effect.Seq, l.tokens[newest].name, l.tokens[newest].begun)
		}
	})
	return func() Verdict {
		for _, l := range j.lives {
			if len(l.tokens) > 1 {
				v.Judged++
			}
		}
		v.note("%d effects in the ledger", effects)
		if unsure {
			v.undecided("the ledger's lines are not in order")
		}
		return v.end("no task has two attempts in the ledger")
	}
}

// token files an effect and returns the place of its attempt.
func (l *life) token(e *history.Event) int {
	i := len(l.tokens) - 1
	for i >= 0 && l.tokens[i].name != e.Effect.Token {
		i--
	}
	if i < 0 {
		i = len(l.tokens)
		l.tokens = append(l.tokens, token{name: e.Effect.Token, begun: e.Effect.Seq, at: e.At})
	}
	t := &l.tokens[i]
	t.last = e.Effect.Seq
	if e.Effect.Step == history.End {
		t.ended = e.Effect.Seq
	}
	return i
}

// checkSuperseded: the result of a superseded attempt never takes effect, and
// nothing takes effect after the result that counts.
func checkSuperseded(j *judge) func() Verdict {
	v := Verdict{
		Check: "no-effect-of-superseded-attempt", Guards: []string{"P2"}, Kind: Safety, Unit: "ended tasks whose result names its attempt in the ledger",
		Claim: "every result that counts is that of the last attempt that took effect, and nothing took effect after it",
	}
	return func() Verdict {
		for _, l := range j.lives {
			end := l.final()
			if end == nil || end.Token == "" || len(l.tokens) == 0 {
				continue
			}
			v.Judged++
			last := &l.tokens[len(l.tokens)-1]
			var mine *token
			for i := range l.tokens {
				if l.tokens[i].name == end.Token {
					mine = &l.tokens[i]
				}
			}
			switch {
			case mine == nil:
				v.violate(l.read, l, "the result is that of attempt %s, which never took effect", end.Token)
			case mine != last:
				v.violate(last.at, l, "the result is that of attempt %s, but attempt %s began after it (lines %d and %d of the ledger)", mine.name, last.name, mine.begun, last.begun)
			case end.State == "succeeded" && mine.ended > 0 && mine.last > mine.ended:
				v.violate(mine.at, l, "attempt %s took effect in line %d, after its end in line %d", mine.name, mine.last, mine.ended)
			}
		}
		return v.end("no result names an attempt that is in the ledger")
	}
}

// unwritten is how much of its history a tester that is killed has not written
// yet: the ledger, which the tasks write, can know more.
const unwritten = int64(time.Second)

// checkLedger: journals, ledger and state agree on who did what.
func checkLedger(j *judge) func() Verdict {
	v := Verdict{
		Check: "journals-ledger-and-state-agree", Guards: []string{"P2", "P3"}, Kind: Safety, Unit: "ended tasks that have effects, and attempts in journals",
		Claim: "state, ledger and journals tell of the same attempts, on the same nodes",
	}
	type try struct {
		l       *life
		attempt int
	}
	on := map[try]string{}
	place := func(l *life, attempt int, node string, at int64, by string) {
		if attempt == 0 || node == "" {
			return
		}
		if was, known := on[try{l, attempt}]; known && was != node {
			v.violate(at, l, "attempt %d was on %s, and on %s by %s", attempt, was, node, by)
			return
		}
		on[try{l, attempt}] = node
	}
	j.onView = append(j.onView, func(l *life, x *history.View, c *call) { place(l, x.Attempt, x.Node, c.ended, "an answer of "+c.node) })
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind == history.Journal {
			v.Judged++
			place(j.find(e.Key, e.Task), e.Attempt, e.Node, e.At, "the journal of "+e.Node)
		}
	})
	return func() Verdict {
		unlinked := 0
		for _, l := range j.lives {
			end := l.final()
			if len(l.tokens) > 0 && l.sent == 0 && len(l.views) == 0 && l.tokens[0].at < j.now-unwritten {
				v.violate(l.tokens[0].at, l, "attempt %s took effect, but nobody submitted its task", l.tokens[0].name)
			}
			if end == nil || l.rules == nil || !l.rules.Effects {
				continue
			}
			v.Judged++
			if len(l.tokens) > end.Attempt {
				v.violate(l.tokens[len(l.tokens)-1].at, l, "%d attempts in the ledger, but it is %s", len(l.tokens), describe(end))
			}
			if end.State != "succeeded" {
				continue
			}
			done := 0
			for i := range l.tokens {
				if l.tokens[i].ended > 0 {
					done++
				}
			}
			if done == 0 {
				v.violate(l.read, l, "it succeeded, but no attempt wrote its end to the ledger")
			}
			if end.Token == "" {
				unlinked++
			}
		}
		if unlinked > 0 {
			v.note("%d results do not name their attempt", unlinked)
		}
		return v.end("no task with effects has ended, and there are no journals")
	}
}
