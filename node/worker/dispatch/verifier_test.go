package dispatch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// guards P3: nobody shares a verification that began before the call, and a
// crowd shares few.
func TestVerifierSharesOnlyWhatBeginsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var began atomic.Int64 // when the last round began, in the bubble's time
		var rounds atomic.Int64
		v := newVerifier(func(context.Context) error {
			began.Store(time.Now().UnixNano())
			rounds.Add(1)
			<-time.After(10 * time.Millisecond)
			return nil
		})
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() {
				<-time.After(time.Duration(i) * time.Millisecond)
				called := time.Now()
				if err := v.after(t.Context(), t.Context()); err != nil {
					t.Error(err)
				}
				// The round that served this call ended just now; it took 10 ms.
				if start := time.Now().Add(-10 * time.Millisecond); start.Before(called) {
					t.Errorf("the verification began %v before the call", called.Sub(start))
				}
			})
		}
		group.Wait()
		if n := rounds.Load(); n > 15 {
			t.Errorf("%d rounds for 100 calls over 100 ms", n)
		}
	})
}

func TestVerifierPassesErrorsOn(t *testing.T) {
	failed := errors.New("no majority")
	v := newVerifier(func(context.Context) error { return failed })
	if err := v.after(t.Context(), t.Context()); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	v.turn <- struct{}{} // somebody verifies, and hangs
	if err := v.after(over, t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if err := v.after(t.Context(), over); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
