package check

import (
	"fmt"
	"time"

	"holdfast/chaos/history"
)

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	Held         Outcome = "held"
	Violated     Outcome = "violated"
	NotExercised Outcome = "not_exercised" // nothing in the history could have violated it
	Undecided    Outcome = "undecided"     // the history, or the time, was not enough to tell
)

// Kind says what a violation of a check means for the run.
type Kind string

// The kinds of checks.
const (
	Safety   Kind = "safety"   // what must never happen
	Bounded  Kind = "bound"    // how long something may take
	Recovery Kind = "recovery" // that all is well again after the last heal
	Validity Kind = "validity" // that the run itself can be believed
)

// Verdict is the end of one check.
type Verdict struct {
	Check   string   `json:"check"`
	Guards  []string `json:"guards,omitempty"` // promises
	Kind    Kind     `json:"kind"`
	Claim   string   `json:"claim"` // what held, if it did
	Outcome Outcome  `json:"outcome"`
	// Judged is how many Units could have violated it.
	Judged int64  `json:"judged"`
	Unit   string `json:"unit"`
	// Why says what was missing where the outcome is no answer.
	Why      string   `json:"why,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Violations are the first ones; Count is how many there were.
	Violations []Violation `json:"violations,omitempty"`
	Count      int64       `json:"count,omitempty"`
}

// Violation is one thing that must not be.
type Violation struct {
	At   int64  `json:"at"` // when it showed, in the history's time
	Task string `json:"task,omitempty"`
	Key  string `json:"key,omitempty"`
	Node string `json:"node,omitempty"`
	Text string `json:"text"`
}

// keptViolations bounds what a verdict lists of a broken run.
const keptViolations = 20

func (v *Verdict) violate(at int64, l *life, format string, args ...any) {
	x := Violation{At: at, Text: fmt.Sprintf(format, args...)}
	if l != nil {
		x.Task, x.Key = l.task, l.key
	}
	v.add(x)
}

func (v *Verdict) add(x Violation) {
	v.Count++
	if len(v.Violations) < keptViolations {
		v.Violations = append(v.Violations, x)
	}
}

func (v *Verdict) note(format string, args ...any) {
	v.Evidence = append(v.Evidence, fmt.Sprintf(format, args...))
}

// end decides the outcome. Why is used if there was nothing to judge.
func (v *Verdict) end(why string) Verdict {
	switch {
	case v.Count > 0:
		v.Outcome = Violated
		v.Why = ""
	case v.Outcome == Undecided:
	case v.Judged == 0:
		v.Outcome, v.Why = NotExercised, why
	default:
		v.Outcome = Held
	}
	return *v
}

// undecided tells what is missing, unless a violation was found.
func (v *Verdict) undecided(format string, args ...any) {
	v.Outcome = Undecided
	if v.Why != "" {
		v.Why += "; "
	}
	v.Why += fmt.Sprintf(format, args...)
}

// The codes of a judged run, as the command line ends with them. 3 is a run
// that could not start and 5 one that was halted: those are no judgements.
const (
	CodeHeld         = 0
	CodeSafety       = 1
	CodeBound        = 2
	CodeInconclusive = 4
	CodeNotHealed    = 6
)

// Judgement is what is known of a run.
type Judgement struct {
	Verdicts []Verdict `json:"verdicts"`
	Failover []Row     `json:"failover,omitempty"` // one per kind of fault
	Faults   []Struck  `json:"faults,omitempty"`   // in the order of their injection
	Duration int64     `json:"duration"`           // time of the last event
	Acked    int64     `json:"acknowledged"`       // writes
}

// Code is the worst of the verdicts.
func (j *Judgement) Code() int {
	worst := CodeHeld
	for _, v := range j.Verdicts {
		code := CodeHeld
		switch {
		case v.Outcome == Undecided, v.Outcome == Violated && v.Kind == Validity:
			code = CodeInconclusive
		case v.Outcome == NotExercised && v.Kind == Validity:
			code = CodeInconclusive
		case v.Outcome != Violated:
		case v.Kind == Safety:
			code = CodeSafety
		case v.Kind == Bounded:
			code = CodeBound
		case v.Kind == Recovery:
			code = CodeNotHealed
		}
		if rank(code) > rank(worst) {
			worst = code
		}
	}
	return worst
}

// rank orders the codes by what a reader must hear first.
func rank(code int) int {
	switch code {
	case CodeSafety:
		return 4
	case CodeBound:
		return 3
	case CodeNotHealed:
		return 2
	case CodeInconclusive:
		return 1
	}
	return 0
}

// Verdict finds a check's verdict by its name, nil if it was not made.
func (j *Judgement) Verdict(check string) *Verdict {
	for i := range j.Verdicts {
		if j.Verdicts[i].Check == check {
			return &j.Verdicts[i]
		}
	}
	return nil
}

// Struck is one fault's life and what it cost.
type Struck struct {
	ID       int64         `json:"id"`
	Fault    history.Fault `json:"fault"`
	Injected int64         `json:"injected"`
	Bit      int64         `json:"bit,omitempty"` // zero: nothing showed that it did
	Heal     int64         `json:"heal,omitempty"`
	Healed   int64         `json:"healed,omitempty"` // zero: nothing showed that it was
	Evidence string        `json:"evidence,omitempty"`
	// Beside are the other faults that were in force at the same time.
	Beside []int64 `json:"beside,omitempty"`
	// Gap is the longest time without an acknowledged write that it is
	// answerable for; -1 if there were no writes to tell by.
	Gap time.Duration `json:"gap_ns"`
}

// BitAfter is the time from the injection to the sign that it bit.
func (s Struck) BitAfter() int64 { return s.Bit - s.Injected }
