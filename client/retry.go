package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

const (
	// jitterFactor spreads clients that failed together.
	jitterFactor = 0.25
	// maxRetryAfter bounds what a server can make a caller wait: a wrong
	// header must not hang it for hours.
	maxRetryAfter = time.Minute
)

// attempt is one try at one address. It returns nil, a *answerError (the node
// answered with a problem), a *permanentError, or what broke the connection.
type attempt func(ctx context.Context, addr string) error

// retrier runs attempts over a cluster's addresses. Safe for concurrent use.
type retrier struct {
	limits  Retries
	onRetry func(RetryEvent)
	ends    *endpoints
}

func newRetrier(cfg Config, addrs []string) *retrier {
	return &retrier{cfg.Retry, cfg.OnRetry, newEndpoints(addrs, cfg.now)}
}

// try runs fn at one address after the other until it succeeds, is refused
// definitely, or attempts or ctx are used up. It is safe to call for
// mutations: their Idempotency-Key is made before, so that a repetition whose
// first try took effect gets the first one's result.
func (r *retrier) try(ctx context.Context, op string, fn attempt) error {
	i, addr := r.ends.pick()
	first := fn(ctx, addr)
	if first == nil {
		r.ends.good(i) // the usual case, without a policy's cost
		return nil
	}
	call := &CallError{Op: op}
	policy := retrypolicy.NewBuilder[any]().
		WithMaxAttempts(r.limits.Attempts).
		WithBackoff(r.limits.MinBackoff, r.limits.MaxBackoff).
		WithJitterFactor(jitterFactor).
		WithDelayFunc(func(failsafe.ExecutionAttempt[any]) time.Duration { return r.delay(call.Err) }).
		AbortIf(func(_ any, err error) bool { return !r.worthRetry(ctx, err) }).
		ReturnLastFailure().
		OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[any]) {
			if r.onRetry != nil {
				r.onRetry(RetryEvent{Op: op, Addr: addr, Attempt: call.Attempts, Err: call.Err, Delay: e.Delay})
			}
		}).Build()
	err := failsafe.With(policy).WithContext(ctx).Run(func() error {
		err := first
		if first = nil; err == nil {
			i, addr = r.ends.pick()
			err = fn(ctx, addr)
		}
		switch {
		case err == nil:
			r.ends.good(i)
			return nil
		case ctx.Err() == nil && blames(err):
			r.ends.bad(i)
		}
		call.tried(addr, err)
		return err
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w%s", op, context.Cause(ctx), lastFailure(call))
	}
	return call
}

func lastFailure(call *CallError) string {
	if call.Err == nil || errors.Is(call.Err, context.Canceled) || errors.Is(call.Err, context.DeadlineExceeded) {
		return ""
	}
	return fmt.Sprintf(" (last failure: %v)", call.Err)
}

// blames tells whether the address is to be passed over for a while: the
// connection failed or the node has no leader. A refusal for load is not the
// node's fault: another one would ask the same leader.
func blames(err error) bool {
	var a *answerError
	if errors.As(err, &a) {
		return a.Status == http.StatusServiceUnavailable
	}
	var p *permanentError
	return !errors.As(err, &p)
}

// worthRetry tells whether another try may end better.
func (r *retrier) worthRetry(ctx context.Context, err error) bool {
	var a *answerError
	if errors.As(err, &a) {
		if !a.Retryable() {
			return false
		}
		// Waiting past the caller's deadline would only hide the reason.
		deadline, ok := ctx.Deadline()
		return !ok || time.Until(deadline) > a.retryAfter
	}
	var p *permanentError
	if errors.As(err, &p) || ctx.Err() != nil {
		return false
	}
	if errors.Is(err, ErrUntrusted) {
		return r.ends.anyGood()
	}
	return true
}

// delay returns how long to wait after err, or -1 for the next backoff.
func (r *retrier) delay(err error) time.Duration {
	var a *answerError
	if errors.As(err, &a) && a.Status == http.StatusTooManyRequests && a.retryAfter > 0 {
		// Jitter goes both ways: raise the delay so that it never ends before
		// what the server asked for.
		return time.Duration(float64(a.retryAfter) / (1 - jitterFactor))
	}
	if r.ends.anyGood() && (a == nil || a.Status == http.StatusServiceUnavailable) {
		return 0 // fail over at once
	}
	if a != nil && a.retryAfter > 0 {
		return time.Duration(float64(a.retryAfter) / (1 - jitterFactor))
	}
	return -1
}

// parseRetryAfter reads the header's seconds or date; 0 if it says nothing.
func parseRetryAfter(h string, now time.Time) time.Duration {
	if h == "" {
		return 0
	}
	var d time.Duration
	if s, err := strconv.ParseFloat(h, 64); err == nil {
		if !(s > 0) {
			return 0
		}
		d = time.Duration(min(s, maxRetryAfter.Seconds()) * float64(time.Second))
	} else if t, err := http.ParseTime(h); err == nil {
		d = t.Sub(now)
	}
	return max(0, min(d, maxRetryAfter))
}
