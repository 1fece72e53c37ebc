package workload

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/client"
)

// The clients' numbers in the history.
const (
	sweeperProcess = 1
	samplerProcess = 10
	clientProcess  = 100
	twinOffset     = 10_000 // of the client that sends again what another has sent
	proberProcess  = 100_000
)

// Load is the load on one cluster. Make it with New; Run it once, then Settle.
type Load struct {
	cfg    Config
	names  map[string]string // nodes' names by ID
	byAddr map[string]string // and by address
	sweep  *sweeper

	mu    sync.Mutex
	known []string // tasks that were acknowledged lately, guarded by mu
	next  int      // where known is written next, guarded by mu
}

// knownTasks is how many tasks reads choose from.
const knownTasks = 2000

// New checks the configuration. It does not connect.
func New(cfg Config) (*Load, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Load{cfg: cfg, names: map[string]string{}, byAddr: map[string]string{}}
	for _, n := range cfg.Nodes {
		addr, err := client.ParseAddr(n.Addr)
		if err != nil {
			return nil, err
		}
		l.names[n.ID], l.byAddr[addr] = n.Name, n.Name
	}
	if l.sweep, err = newSweeper(l); err != nil {
		return nil, err
	}
	return l, nil
}

// Close drops what Run and Settle left open.
func (l *Load) Close() { l.sweep.s.cl.Close() }

// Run loads the cluster until ctx ends and returns once every operation that
// was begun has its end in the history.
func (l *Load) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var closers []func()
	defer func() {
		cancel()
		work.Wait()
		for _, f := range closers {
			f()
		}
	}()
	for i := range l.cfg.Clients {
		c, err := l.newRecorder(i)
		if err != nil {
			return err
		}
		closers = append(closers, c.s.cl.Close, c.twin.cl.Close)
		work.Go(func() { c.run(ctx) })
	}
	for i := range l.cfg.Nodes {
		s, err := l.newSampler(i)
		if err != nil {
			return err
		}
		closers = append(closers, s.close)
		work.Go(func() { s.run(ctx) })
		if l.cfg.ProbeEvery > 0 {
			p := l.newProber(i)
			work.Go(func() { p.run(ctx) })
		}
	}
	work.Go(func() { l.sweep.run(ctx) })
	<-ctx.Done()
	return nil
}

// remember keeps acknowledged tasks to read them later.
func (l *Load) remember(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if len(l.known) < knownTasks {
			l.known = append(l.known, id)
			continue
		}
		l.known[l.next] = id
		l.next = (l.next + 1) % knownTasks
	}
}

// some returns one of the tasks that are remembered, mostly a young one: what
// ended long ago shows nothing new.
func (l *Load) some(intn func(int) int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.known)
	if n == 0 {
		return ""
	}
	back := min(intn(n), intn(n))
	if intn(4) > 0 {
		back = min(back, intn(min(n, 50)))
	}
	newest := n - 1
	if n == knownTasks {
		newest = l.next - 1
	}
	return l.known[((newest-back)%n+n)%n]
}

// from is every node, the i-th first.
func (l *Load) from(i int) []Target {
	i %= len(l.cfg.Nodes)
	return slices.Concat(l.cfg.Nodes[i:], l.cfg.Nodes[:i])
}

// every calls f on a beat until ctx ends, not before the call before has
// ended.
func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		f()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
