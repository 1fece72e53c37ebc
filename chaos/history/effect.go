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
// token, the step, and the time of day in seconds since 1970, all between
// spaces. The event has the name as its Key. Tasks see no other clock that
// their host's tester sees; the order of effects does not rest on it.
func ParseEffect(line string, seq int64, start time.Time) (Event, error) {
	f := strings.Fields(line)
	if len(f) != 4 {
		return Event{}, fmt.Errorf("ledger line %d: %q has %d words, want name, token, step and seconds", seq, line, len(f))
	}
	switch Step(f[2]) {
	case Begin, Tick, End:
	default:
		return Event{}, fmt.Errorf("ledger line %d: %q is no step", seq, f[2])
	}
	seconds, fraction, _ := strings.Cut(f[3], ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return Event{}, fmt.Errorf("ledger line %d: read the time of day: %w", seq, err)
	}
	ns, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // a float has too few digits
	if err != nil {
		return Event{}, fmt.Errorf("ledger line %d: read the time of day: %w", seq, err)
	}
	return Event{
		At: int64(time.Unix(s, ns).Sub(start)), Kind: Took, Key: f[0],
		Effect: &Effect{Seq: seq, Token: f[1], Step: Step(f[2])},
	}, nil
}
