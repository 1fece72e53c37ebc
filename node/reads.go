package node

import (
	"context"
	"sync"
)

// coalescer lets many concurrent linearizable reads share one question to the
// leader. A read may only join a round that starts after the read arrived:
// the answer of one under way could be older than a write that the reader has
// already seen acknowledged.
type coalescer struct {
	// ask fetches the leader's read index. It gets a context that ends with
	// the last waiter's interest, not with the first one's.
	ask func(ctx context.Context) (uint64, error)

	mu      sync.Mutex
	running bool
	next    *round // gathers readers while another round runs
}

type round struct {
	done    chan struct{}
	index   uint64
	err     error
	waiting int
	cancel  context.CancelFunc
}

// read returns an index that covers every write acknowledged before the call.
func (c *coalescer) read(ctx context.Context) (uint64, error) {
	c.mu.Lock()
	r := c.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		c.next = r
		if !c.running {
			c.startNext(ctx)
		}
	}
	r.waiting++
	c.mu.Unlock()
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		c.mu.Lock()
		if r.waiting--; r.waiting == 0 && r.cancel != nil {
			r.cancel()
		}
		c.mu.Unlock()
		return 0, ctx.Err()
	}
}

// startNext begins the gathered round. The caller holds mu; parent only lends
// its values.
func (c *coalescer) startNext(parent context.Context) {
	r := c.next
	c.next = nil
	c.running = true
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	r.cancel = cancel
	go func() {
		r.index, r.err = c.ask(ctx)
		cancel()
		close(r.done)
		c.mu.Lock()
		c.running = false
		if c.next != nil {
			c.startNext(parent)
		}
		c.mu.Unlock()
	}()
}
