package load

import (
	"context"
	"sync"
	"time"
)

// Outcome is one operation of an open loop.
type Outcome struct {
	Begun, Ended time.Time
	Err          error
}

// Open begins an operation every spacing, whether or not the ones before have
// ended, until ctx ends: what waits is not hidden by clients that wait with
// it. At most limit operations are under way; beyond that a beat is dropped.
// each hears of every outcome, one at a time. It returns the dropped beats.
func Open(ctx context.Context, spacing time.Duration, limit int, do func(ctx context.Context, i int) error, each func(Outcome)) (dropped int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, limit)
	tick := time.NewTicker(spacing)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return dropped
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			dropped++
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			o := Outcome{Begun: time.Now()}
			o.Err = do(ctx, i)
			o.Ended = time.Now()
			mu.Lock()
			defer mu.Unlock()
			each(o)
		})
	}
}
