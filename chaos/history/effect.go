package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Step is what an effect tells of its attempt.
type Step string

// The steps of an attempt.
const (
	Begin Step = "begin"
	Tick  Step = "tick" // it still runs
	End   Step = "end"  // its last act before it exits
)

// Effect is one act of one attempt on the world outside the cluster. The order
// of effects is that of Seq: the ledger is a file on one host that attempts
// append to, so that it proves by itself what came first.
type Effect struct {
	Seq   int64  `json:"seq"`   // line of the ledger, from 1
	Token string `json:"token"` // chosen by the attempt, no two alike
	Step  Step   `json:"step"`
}

// ParseEffect reads a line of the ledger: the task's name, the attempt's
// token, the step, and the boot clock in seconds as /proc/uptime has it, all
// between spaces. The event has the name as its Key. Boot is the boot clock at
// the run's start.
func ParseEffect(line string, seq int64, boot time.Duration) (Event, error) {
	f := strings.Fields(line)
	if len(f) != 4 {
		return Event{}, fmt.Errorf("ledger line %d: %q has %d words, want name, token, step and seconds", seq, line, len(f))
	}
	switch Step(f[2]) {
	case Begin, Tick, End:
	default:
		return Event{}, fmt.Errorf("ledger line %d: %q is no step", seq, f[2])
	}
	s, err := strconv.ParseFloat(f[3], 64)
	if err != nil {
		return Event{}, fmt.Errorf("ledger line %d: read the boot clock: %w", seq, err)
	}
	at := time.Duration(s*1e9) - boot
	return Event{
		At: int64(at), Kind: Took, Key: f[0],
		Effect: &Effect{Seq: seq, Token: f[1], Step: Step(f[2])},
	}, nil
}
