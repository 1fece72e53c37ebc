package sandbox

import (
	"slices"
	"time"
)

// Proof is what Prove found out.
type Proof struct {
	Checks []Check // in a fixed order, each way out once
	Took   time.Duration
}

// Check is one kind of way out of a sandbox.
type Check struct {
	Name    string // for example host_files
	Tries   string // what it tries to do, for people
	Outcome Outcome
	Detail  string // what got out, or why it was not tried
}

// Outcome is how a check ended.
type Outcome string

// The outcomes.
const (
	Held     Outcome = "held"      // nothing got out
	Escaped  Outcome = "escaped"   // something did: the machine cannot isolate
	NotTried Outcome = "not_tried" // nothing is known
)

// With is the checks that ended so.
func (p Proof) With(o Outcome) []Check {
	return slices.DeleteFunc(slices.Clone(p.Checks), func(c Check) bool { return c.Outcome != o })
}

// newProof has every check, none of them tried for the reason given.
func newProof(reason string) Proof {
	var p Proof
	for _, w := range walls {
		p.Checks = append(p.Checks, Check{w.name, w.tries, NotTried, reason})
	}
	for _, l := range [][2]string{
		{checkMemory, "use more memory than the limit"}, {checkProcesses, "start more processes and threads than the limit"},
	} {
		p.Checks = append(p.Checks, Check{l[0], l[1], NotTried, reason})
	}
	return p
}

func (p Proof) set(name string, o Outcome, detail string) {
	for i := range p.Checks {
		if c := &p.Checks[i]; c.Name == name {
			c.Outcome, c.Detail = o, detail
		}
	}
}

// Checks that run in a sandbox of their own.
const (
	checkMemory    = "memory"
	checkProcesses = "processes"
)
