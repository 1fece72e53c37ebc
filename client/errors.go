package client

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The codes of problems, without their prefix.
const (
	CodeInvalid         = "invalid"
	CodeNotFound        = "not_found"
	CodeConflict        = "conflict"
	CodeUnauthenticated = "unauthenticated"
	CodeForbidden       = "forbidden"
	CodeQueueFull       = "queue_full"
	CodeRateLimited     = "rate_limited"
	CodeOverloaded      = "overloaded"
	CodeUnavailable     = "unavailable"
	CodeTooLarge        = "too_large"
	CodeTokenUsed       = "token_used"
	CodeTokenExpired    = "token_expired"
	CodeStaleTooOld     = "stale_too_old"
	CodeInternal        = "internal"
)

// Code returns the stable code of the problem's type, such as "not_found";
// empty if the type is not one of this API.
func (p *Problem) Code() string {
	code, ok := strings.CutPrefix(p.Type, ProblemPrefix)
	if !ok {
		return ""
	}
	return code
}

// Retryable tells whether the same request may succeed later.
func (p *Problem) Retryable() bool { return p.Status == 429 || p.Status == 503 }

// HasCode tells whether err is a problem with the given code.
func HasCode(err error, code string) bool {
	var p *Problem
	return errors.As(err, &p) && p.Code() == code
}

// IsNotFound tells whether the thing asked for does not exist.
func IsNotFound(err error) bool { return hasStatus(err, 404) }

// IsInvalid tells whether the request itself was wrong.
func IsInvalid(err error) bool {
	return hasStatus(err, 400) || hasStatus(err, 413) || hasStatus(err, 422)
}

// IsConflict tells whether the thing's state did not allow the request.
func IsConflict(err error) bool { return hasStatus(err, 409) }

// IsUnauthenticated tells whether the token is missing, unknown or expired.
func IsUnauthenticated(err error) bool { return hasStatus(err, 401) }

// IsForbidden tells whether the token's role does not allow the request.
func IsForbidden(err error) bool { return hasStatus(err, 403) }

// IsOverloaded tells whether the cluster refused for load: queue full, rate
// limit or too much in flight.
func IsOverloaded(err error) bool { return hasStatus(err, 429) }

// IsUnavailable tells whether no node gave a definite answer: none could be
// reached, or there was no leader.
func IsUnavailable(err error) bool {
	if hasStatus(err, 503) {
		return true
	}
	var p *Problem
	var c *CallError
	return errors.As(err, &c) && !errors.As(err, &p)
}

func hasStatus(err error, status int) bool {
	var p *Problem
	return errors.As(err, &p) && p.Status == status
}

// CallError is a call that failed: what was tried, where, how often, and the
// last failure of each address. It unwraps to the last failure, a *Problem if
// a node answered with one.
type CallError struct {
	Op       string // what was tried, as in "get task t5"
	Attempts int
	Tried    []Try // one per address, in the order of the first try
	Err      error // of the last attempt
}

// Try is the last failure at one address.
type Try struct {
	Addr string
	Err  error
}

// Error names the operation and every address with its last failure.
func (e *CallError) Error() string {
	var p *Problem
	if errors.As(e.Err, &p) && !p.Retryable() {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: failed after %d attempt", e.Op, e.Attempts)
	if e.Attempts != 1 {
		b.WriteByte('s')
	}
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %v", t.Addr, t.Err)
	}
	return b.String()
}

// Unwrap gives the last failure.
func (e *CallError) Unwrap() error { return e.Err }

// tried notes the failure of one attempt.
func (e *CallError) tried(addr string, err error) {
	e.Attempts++
	e.Err = err
	for i := range e.Tried {
		if e.Tried[i].Addr == addr {
			e.Tried[i].Err = err
			return
		}
	}
	e.Tried = append(e.Tried, Try{addr, err})
}

// answerError is a problem together with what its answer asked of us.
type answerError struct {
	*Problem
	retryAfter time.Duration // zero: not said
}

func (e *answerError) Unwrap() error { return e.Problem }

// permanentError is a failure that no repetition can cure although no node
// refused the request.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }
