package check

import (
	"time"

	"holdfast/chaos/history"
)

// longestSilence is what a healthy cluster under load may go without an
// acknowledged write: no longer than one whose leader was just cut off.
const longestSilence = 1500 * time.Millisecond

// lateProbes is the part of the probes that may miss their time-out in a
// healthy cluster: hosts stumble for other reasons, too.
const lateProbes = 0.05

// checkHealthy: for a minute after the last heal everything works, so that
// nothing hides behind "a fault was in force".
func checkHealthy(j *judge) func() Verdict {
	v := Verdict{
		Check: "healthy-after-healing", Guards: []string{"P5"}, Kind: Recovery, Unit: "operations after the last heal",
		Claim: "after the last heal every operation was answered, and writes never paused",
	}
	var last, longest int64 // the last acknowledged write, and the longest pause
	begun, over := int64(-1), int64(-1)
	asked := int64(-1) // when the last write of the phase was sent
	probes, late := 0, 0
	pause := func(until int64) {
		if last >= 0 {
			longest = max(longest, until-last)
		}
	}
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Enter {
			return
		}
		switch {
		case e.Phase == history.Healthy:
			begun, last = e.At, e.At
		case begun >= 0 && over < 0:
			over = e.At
		}
	})
	j.onInvoke = append(j.onInvoke, func(c *call) {
		if c.write() && begun >= 0 && over < 0 {
			asked = c.invoked
		}
	})
	j.onEnd = append(j.onEnd, func(c *call) {
		if c.phase != history.Healthy {
			return
		}
		v.Judged++
		if c.op == history.Probe {
			probes++
		}
		switch {
		case c.ok():
			if c.write() && over < 0 {
				pause(c.ended)
				last = c.ended
			}
		case c.outcome == history.Refused && (c.code == codeConflict || c.code == codeNotFound || c.code == codeTooStale), c.code == history.GivenUp:
			// The state did not allow it, which is an answer; or the client
			// did not want one.
		case c.op == history.Probe && c.outcome == history.Unknown:
			late++ // its time-out is a bound on the delay, and a short one
		default:
			v.add(Violation{At: c.invoked, Task: c.task, Key: c.key, Node: c.node, Text: sprint(
				"%s at %s, asked at %s: %s %s %s", c.op, c.node, at(c.invoked), c.outcome, c.code, c.err)})
		}
	})
	return func() Verdict {
		if begun < 0 {
			return v.end("the run has no time after its last heal")
		}
		// The load ends before its phase does, when its last call has ended.
		pause(asked)
		lasted := time.Duration(max(0, asked-begun))
		v.note("%s after the last heal, longest pause between acknowledged writes %s", lasted.Round(time.Millisecond), ms(time.Duration(longest)))
		if time.Duration(longest) > j.limits.Silence {
			v.add(Violation{At: begun, Text: sprint("no write was acknowledged for %s", ms(time.Duration(longest)))})
		}
		if probes > 0 {
			v.note("%d of %d probes had no answer in time", late, probes)
		}
		if float64(late) > j.limits.LateProbes*float64(probes) {
			v.add(Violation{At: begun, Text: sprint("%d of %d probes had no answer in time, at most one in %.0f may", late, probes, 1/j.limits.LateProbes)})
		}
		if lasted+lasted/20 < j.limits.Healthy { // the last write is sent shortly before the end
			v.undecided("it was watched for %s, want %s", lasted.Round(time.Millisecond), j.limits.Healthy)
		}
		return v.end("nobody asked anything after the last heal")
	}
}

// checkHealed: each heal was measured, not assumed.
func checkHealed(j *judge) func() Verdict {
	v := Verdict{
		Check: "every-heal-verified", Kind: Recovery, Unit: "injected faults",
		Claim: "every fault was healed, and seen to be",
	}
	faults := newFaults(j)
	return func() Verdict {
		for _, f := range *faults {
			v.Judged++
			switch {
			case f.Heal == 0:
				v.add(Violation{At: f.Injected, Text: sprint("%s was never healed", name(f))})
			case f.Healed == 0:
				v.add(Violation{At: f.Heal, Text: sprint("%s was healed at %s, and nothing shows that it worked", name(f), at(f.Heal))})
			}
		}
		return v.end("no fault was injected")
	}
}

// checkBit: a fault that did not bite proves nothing.
func checkBit(j *judge) func() Verdict {
	v := Verdict{
		Check: "every-fault-bit", Kind: Validity, Unit: "injected faults",
		Claim: "every injected fault was seen to have its effect",
	}
	faults := newFaults(j)
	return func() Verdict {
		for _, f := range *faults {
			v.Judged++
			if f.Bit == 0 {
				v.add(Violation{At: f.Injected, Text: sprint("%s was injected at %s, and nothing shows that it bit", name(f), at(f.Injected))})
			}
		}
		out := v.end("no fault was injected")
		if out.Outcome == NotExercised {
			out.Kind = Safety // a run without faults can be what was wanted
		}
		return out
	}
}

func name(f *Struck) string {
	return sprint("fault %d (%s on %v)", f.ID, f.Fault.Type, f.Fault.Targets)
}

// newFaults gathers the faults of a history.
func newFaults(j *judge) *[]*Struck {
	list, byID := &[]*Struck{}, map[int64]*Struck{}
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		f := byID[e.ID]
		switch e.Kind {
		case history.Inject:
			f = &Struck{ID: e.ID, Injected: e.At, Gap: -1}
			if e.Fault != nil {
				f.Fault = *e.Fault
			}
			byID[e.ID] = f
			*list = append(*list, f)
		case history.Bit, history.Heal, history.Healed:
			if f == nil {
				return
			}
			switch {
			case e.Kind == history.Bit && f.Bit == 0:
				f.Bit, f.Evidence = e.At, e.Text
			case e.Kind == history.Heal && f.Heal == 0:
				f.Heal = e.At
			case e.Kind == history.Healed && f.Healed == 0:
				f.Healed = e.At
			}
		}
	})
	return list
}

// checkEnough: a verdict over nothing is none.
func checkEnough(j *judge) func() Verdict {
	v := Verdict{
		Check: "enough-operations", Kind: Validity, Unit: "acknowledged writes",
		Claim: "there were enough operations to judge by",
	}
	return func() Verdict {
		v.Judged = j.acked
		if j.acked < int64(j.limits.Operations) {
			v.add(Violation{At: j.now, Text: sprint("%d writes were acknowledged, want at least %d", j.acked, j.limits.Operations)})
		}
		return v.end("no write was acknowledged")
	}
}
