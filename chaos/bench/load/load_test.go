package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBucketsHoldTheirValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64Max(1<<62).Draw(t, "v")
		i := bucketOf(v)
		top := valueOf(i)
		if top < v || float64(top-v) > float64(v)/(1<<subBits) {
			t.Fatalf("%d is in bucket %d, whose largest value is %d", v, i, top)
		}
		if i > 0 && valueOf(i-1) >= v {
			t.Fatalf("%d is in bucket %d, but bucket %d reaches %d", v, i, i-1, valueOf(i-1))
		}
	})
}

func TestQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Fatal("an empty histogram has a median")
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, 10_000)
	for i := range all {
		all[i] = time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		h.Add(all[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		if got := h.Quantile(q); got < want || float64(got) > float64(want)*1.02+1 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if h.Quantile(1) != all[len(all)-1] || h.Max() != all[len(all)-1] {
		t.Errorf("largest: %v and %v, want %v", h.Quantile(1), h.Max(), all[len(all)-1])
	}
}

func TestClosedCountsWhatItMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 4 clients, 10 ms each: 400 a second, of which the warm-up is not counted.
		r := Closed(t.Context(), Options{Clients: 4, Warmup: time.Second, Duration: 2 * time.Second}, func(context.Context, int) (int, error) {
			time.Sleep(10 * time.Millisecond)
			return 1, nil
		})
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		if r.All < r.Ops+390 || r.Ops < 796 || r.Ops > 800 || r.Rate() < 398 || r.Rate() > 402 || r.P50 < 10*time.Millisecond || r.P50 > 11*time.Millisecond {
			t.Fatalf("%+v, rate %.1f", r, r.Rate())
		}
	})
}

func TestClosedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		r := Closed(t.Context(), Options{Clients: 3, Duration: time.Hour, MaxOps: 100}, func(context.Context, int) (int, error) {
			calls.Add(1)
			time.Sleep(time.Millisecond)
			return 10, nil
		})
		if r.Ops < 100 || r.Ops > 120 {
			t.Fatalf("%d operations, asked for at most 100", r.Ops)
		}
		fail := errors.New("no")
		r = Closed(t.Context(), Options{Clients: 3, Duration: time.Hour}, func(context.Context, int) (int, error) {
			time.Sleep(time.Millisecond)
			return 0, fail
		})
		if r.Err() == nil || r.FirstError != "no" || r.Errors > maxErrors+3 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestOpenDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond+time.Microsecond)
		defer cancel()
		var worst time.Duration
		n := 0
		dropped := Open(ctx, time.Millisecond, 50, func(_ context.Context, i int) error {
			if i == 0 {
				time.Sleep(time.Second) // the others go on meanwhile
			}
			return nil
		}, func(o Outcome) { n++; worst = max(worst, o.Ended.Sub(o.Begun)) })
		if n != 100 || dropped != 0 || worst != time.Second {
			t.Fatalf("%d ended, %d dropped, slowest %v", n, dropped, worst)
		}
	})
}

func TestOpenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond+time.Microsecond)
		defer cancel()
		n := 0
		dropped := Open(ctx, time.Millisecond, 10, func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			func(o Outcome) { n++ })
		if n != 10 || dropped != 90 {
			t.Fatalf("%d ended, %d dropped", n, dropped)
		}
	})
}
