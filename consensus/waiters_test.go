package consensus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

func TestWaitersWakeAtTheirIndex(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newAppliedIndex()
		waits := rapid.SliceOfN(rapid.Uint64Range(1, 50), 0, 30).Draw(rt, "waits")
		steps := rapid.SliceOfN(rapid.Uint64Range(1, 50), 1, 10).Draw(rt, "steps")
		var wg sync.WaitGroup
		early := make(chan uint64, len(waits))
		for _, w := range waits {
			wg.Go(func() {
				if err := a.wait(context.Background(), w); err != nil || a.index.Load() < w {
					early <- w
				}
			})
		}
		for _, s := range steps {
			a.advance(s)
		}
		a.advance(50) // frees everyone: a lost wake-up would hang here
		wg.Wait()
		if len(early) > 0 {
			rt.Fatalf("wait(%d) returned early", <-early)
		}
	})
}

func TestWaitersGiveUpAndFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAppliedIndex()
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 3)
		go func() { errs <- a.wait(ctx, 5) }()
		go func() { errs <- a.wait(t.Context(), 7) }()
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if a.next.Load() != 7 || len(a.heap) != 1 {
			t.Fatalf("the abandoned waiter is still there: next %d, %d waiting", a.next.Load(), len(a.heap))
		}
		broken := errors.New("broken")
		a.fail(broken)
		if err := <-errs; err != broken {
			t.Fatal(err)
		}
		if err := a.wait(t.Context(), 9); err != broken {
			t.Fatal(err)
		}
		a.advance(3)
		if err := a.wait(t.Context(), 3); err != nil { // what is applied stays readable
			t.Fatal(err)
		}
		a.advance(2)
		if a.index.Load() != 3 {
			t.Fatal("the index went down")
		}
	})
}
