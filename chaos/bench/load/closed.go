package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound a run of closed-loop clients.
type Options struct {
	Clients  int
	Warmup   time.Duration // not counted
	Duration time.Duration // at most so long
	MaxOps   int           // at most so many counted operations; 0 = no bound
}

// Report is what a run measured. Durations are nanoseconds in JSON.
type Report struct {
	Ops        int           `json:"ops"`
	All        int           `json:"all"` // the warm-up's, too
	Errors     int           `json:"errors"`
	FirstError string        `json:"first_error,omitempty"`
	Elapsed    time.Duration `json:"elapsed"`
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
	P999       time.Duration `json:"p999"`
	Max        time.Duration `json:"max"`
}

// Rate is operations per second.
func (r Report) Rate() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Ops) / r.Elapsed.Seconds()
}

// Err is the first error, if any operation failed: a rate beside failures
// says nothing.
func (r Report) Err() error {
	if r.Errors == 0 && r.Ops > 0 {
		return nil
	}
	return fmt.Errorf("%d operations done, %d failed, first: %s", r.Ops, r.Errors, r.FirstError)
}

// Do is one operation of one client: it returns how many commands it
// committed.
type Do func(ctx context.Context, client int) (int, error)

// Closed runs clients that each begin an operation when the one before has
// ended. An operation counts if it ended within the measured time.
func Closed(ctx context.Context, o Options, do Do) Report {
	ctx, cancel := context.WithTimeout(ctx, o.Warmup+o.Duration+time.Minute)
	defer cancel()
	var h Histogram
	var ops, all, failed atomic.Int64
	var first atomic.Pointer[string]
	begin := time.Now().Add(o.Warmup)
	end := begin.Add(o.Duration)
	var last atomic.Int64 // ns after begin at which the last counted operation ended
	var wg sync.WaitGroup
	for c := range o.Clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				started := time.Now()
				if started.After(end) || o.MaxOps > 0 && ops.Load() >= int64(o.MaxOps) {
					return
				}
				n, err := do(ctx, c)
				now := time.Now()
				all.Add(int64(n))
				switch {
				case err != nil:
					text := err.Error()
					first.CompareAndSwap(nil, &text)
					if failed.Add(1) > maxErrors {
						return
					}
				case now.After(begin) && !now.After(end):
					ops.Add(int64(n))
					h.Add(now.Sub(started))
					raise(&last, int64(now.Sub(begin)))
				}
			}
		})
	}
	wg.Wait()
	r := Report{
		Ops: int(ops.Load()), All: int(all.Load()), Errors: int(failed.Load()), Elapsed: time.Duration(last.Load()),
		P50: h.Quantile(0.5), P99: h.Quantile(0.99), P999: h.Quantile(0.999), Max: h.Max(),
	}
	if p := first.Load(); p != nil {
		r.FirstError = *p
	}
	return r
}

// maxErrors ends a run that only fails.
const maxErrors = 1000

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); to > old && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}
