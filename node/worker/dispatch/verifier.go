package dispatch

import (
	"context"
	"sync"
)

// verifier lets many callers share verifications of leadership: at most one is
// in flight, and everybody who asks meanwhile shares the next one. Nobody may
// share the one in flight: it could have begun before their renewal arrived.
type verifier struct {
	verify func(ctx context.Context) error
	turn   chan struct{} // capacity 1: held by whoever verifies

	mu   sync.Mutex
	next *round // whoever waits for the round after the one in flight
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

func newVerifier(verify func(context.Context) error) *verifier {
	return &verifier{verify: verify, turn: make(chan struct{}, 1)}
}

// after returns the outcome of a verification that began after the call. It
// runs in the goroutine of one of those who wait for it, under the office's
// context, so that one caller's end does not spoil it for the others.
func (v *verifier) after(ctx, office context.Context) error {
	v.mu.Lock()
	if v.next == nil {
		v.next = &round{done: make(chan struct{})}
	}
	mine := v.next
	v.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	case <-office.Done():
		return office.Err()
	case v.turn <- struct{}{}:
	}
	defer func() { <-v.turn }()
	select {
	case <-mine.done: // somebody else was faster
		return mine.err
	default:
	}
	// Rounds are taken only in turn, so the next one is still ours.
	v.mu.Lock()
	v.next = nil
	v.mu.Unlock()
	mine.err = v.verify(office)
	close(mine.done)
	return mine.err
}
