package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// way is a direction between two machines (or a client and one).
type way struct{ from, to string }

// network decides how long a message takes from one machine to another, and
// whether it gets there. It stands for QUIC: what is lost is sent again, so loss
// costs time; what is cut off arrives late if the way is healed before the
// sender, or the connection, has given up.
type network struct {
	mu      sync.Mutex
	rng     *rand.Rand               // guarded by mu
	cut     map[way]bool             // guarded by mu
	slow    map[way]time.Duration    // guarded by mu: more delay
	frozen  map[string]bool          // guarded by mu: machines whose processes stand still
	loss    float64                  // guarded by mu: of each packet
	twice   float64                  // guarded by mu: of each raft request
	changed chan struct{}            // guarded by mu: closed when a way may have opened
	least   time.Duration            // delay of a message
	spread  time.Duration            // more, by chance
	resend  time.Duration            // after a loss, doubling
	seen    struct{ held, sent int } // guarded by mu
}

func newNetwork(rng *rand.Rand, least, spread time.Duration) *network {
	return &network{rng: rng, cut: map[way]bool{}, slow: map[way]time.Duration{}, frozen: map[string]bool{},
		changed: make(chan struct{}), least: least, spread: spread, resend: 20 * time.Millisecond}
}

// alter changes the network under its lock.
func (n *network) alter(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// heal ends everything but frozen machines.
func (n *network) heal() {
	n.alter(func() {
		clear(n.cut)
		clear(n.slow)
		n.loss, n.twice = 0, 0
	})
}

var errNoWay = errors.New("simulated network: no answer")

// cross takes one message over a way. It returns nil on arrival, else ctx's end.
func (n *network) cross(ctx context.Context, from, to string) error {
	if from == to {
		return n.awake(ctx, to)
	}
	for {
		n.mu.Lock()
		n.seen.sent++
		w := way{from, to}
		closed := n.cut[w] || n.frozen[from] || n.frozen[to]
		changed := n.changed
		delay := n.least + n.slow[w]
		if n.spread > 0 {
			delay += time.Duration(n.rng.Int64N(int64(n.spread)))
		}
		for again := n.resend; n.loss > 0 && n.rng.Float64() < n.loss; again *= 2 {
			delay += again
		}
		if closed {
			n.seen.held++
		}
		n.mu.Unlock()
		if closed {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return errNoWay
			}
		}
		if !sleep(ctx, delay) {
			return errNoWay
		}
		n.mu.Lock()
		closed = n.cut[w] || n.frozen[to]
		n.mu.Unlock()
		if !closed {
			return nil
		}
	}
}

// awake waits until a machine's processes run.
func (n *network) awake(ctx context.Context, id string) error {
	for {
		n.mu.Lock()
		frozen, changed := n.frozen[id], n.changed
		n.mu.Unlock()
		if !frozen {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errNoWay
		}
	}
}

// chance is a draw with probability p for the network's own use.
func (n *network) duplicates() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.twice > 0 && n.rng.Float64() < n.twice
}

// sleep lets simulated time pass, and says whether ctx lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
