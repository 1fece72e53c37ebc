package workload

import (
	"errors"
	"net"
	"strings"

	"holdfast/chaos/history"
	"holdfast/client"
)

// nothingChanged is what an answer says that might have had an effect by its
// code, and had none. The code alone does not tell: "unavailable" is both "no
// leader" and "no answer from the leader in time".
const nothingChanged = "nothing was changed"

// unreachable is the code of a call that no node was reached by.
const unreachable = "unreachable"

// definite tells whether a failed try had no effect for sure, and the code of
// its refusal.
func definite(err error) (code string, sure bool) {
	var p *client.Problem
	if errors.As(err, &p) {
		switch code = p.Code(); code {
		case client.CodeUnavailable:
			return code, strings.Contains(p.Detail, nothingChanged)
		case client.CodeInternal, "":
			return code, false
		}
		return code, true
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return unreachable, true
	}
	return "", false
}

// outcome judges a call by all its tries, the last one included: a refusal
// tells nothing of the tries before it, one of which may still be under way.
func outcome(tries []error) (k history.Kind, code string) {
	k = history.Refused
	for _, err := range tries {
		c, sure := definite(err)
		code = c
		if !sure {
			k = history.Unknown
		}
	}
	return k, code
}
