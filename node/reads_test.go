package node

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// A read that arrives while a question is under way must not take its answer:
// it could miss a write acknowledged in between. guards P4
func TestReadDoesNotJoinARoundUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan uint64)
		c := coalescer{ask: func(context.Context) (uint64, error) { return <-answers, nil }}
		got := make(chan uint64, 3)
		read := func() { i, _ := c.read(t.Context()); got <- i }
		go read()
		synctest.Wait()
		go read()
		go read()
		synctest.Wait()
		answers <- 1
		if i := <-got; i != 1 {
			t.Fatalf("first read got %d", i)
		}
		synctest.Wait()
		select {
		case i := <-got:
			t.Fatalf("a later read got %d of the round before it", i)
		default:
		}
		answers <- 2 // one round for both
		if a, b := <-got, <-got; a != 2 || b != 2 {
			t.Fatalf("later reads got %d and %d", a, b)
		}
	})
}

func TestAbandonedRoundIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		c := coalescer{ask: func(ctx context.Context) (uint64, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		}}
		ctx1, cancel1 := context.WithCancel(t.Context())
		ctx2, cancel2 := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.read(ctx1) })
		synctest.Wait()
		cancel1()
		wg.Wait()
		synctest.Wait()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatalf("round ended with %v", err)
		}
		// The next reader starts afresh.
		wg.Go(func() { _, _ = c.read(ctx2) })
		synctest.Wait()
		cancel2()
		wg.Wait()
		<-ended
	})
}
