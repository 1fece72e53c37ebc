package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// Options say how to run the demo.
type Options struct {
	Binary   string    // path of holdfast
	Source   string    // folder of packages; FindSource gives the default
	Out      io.Writer // progress and verdict
	Terminal bool      // Out is a terminal: draw a bar
	Log      io.Writer // every node's log; nil for none
}

// Verdict is what the demo found.
type Verdict struct {
	Tasks    int
	Correct  int
	Lost     int // acknowledged, but not there or not ended at the end
	Twice    int // took effect more than once: submitted or ended twice
	KilledAt int // tasks that had ended when the leader was killed
	Paused   time.Duration
	Wrong    []string // what differed, for people
}

// Err is nil if everything holds.
func (v *Verdict) Err() error {
	if v.Correct == v.Tasks && v.Lost == 0 && v.Twice == 0 && v.Tasks > 0 {
		return nil
	}
	return fmt.Errorf("the demo failed: %d of %d tasks correct, %d lost, %d took effect twice", v.Correct, v.Tasks, v.Lost, v.Twice)
}

// String is the verdict's one line.
func (v *Verdict) String() string {
	return fmt.Sprintf("%d tasks, %d correct, %d lost, %d took effect twice; leader killed at task %d, writes paused for %d ms",
		v.Tasks, v.Correct, v.Lost, v.Twice, v.KilledAt, v.Paused.Milliseconds())
}

// Run starts the cluster, runs every task, kills the leader meanwhile, checks
// every result and removes everything. The verdict is valid if the error is
// nil; ask its Err.
func Run(ctx context.Context, opt Options) (verdict *Verdict, err error) {
	dirs, err := packages(opt.Source)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the demo: %w", err)
	}
	before, err := takeInventory()
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(work), before.leftovers(work))
	}()

	p := newProgress(opt.Out, opt.Terminal, len(dirs))
	p.say("starting three nodes in %s", work)
	c, err := cluster.Start(ctx, cluster.Options{Binary: opt.Binary, Nodes: 3, Dir: filepath.Join(work, "cluster"), Log: opt.Log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(c)) }()

	r := &run{opt: opt, c: c, p: p, dirs: dirs, ids: make([]string, len(dirs))}
	if err := r.all(ctx); err != nil {
		p.end()
		return nil, fmt.Errorf("%w\nlast lines of the nodes' logs:%s", err, logs(c))
	}
	p.end()
	return r.verdict(ctx)
}

// run is one demo under way.
type run struct {
	opt  Options
	c    *cluster.Cluster
	p    *progress
	dirs []string

	mu       sync.Mutex
	ids      []string // by directory; empty until acknowledged
	killed   time.Time
	killedAt int
	resumed  time.Time // first acknowledgement of a submission begun after the kill
}

// Shares of the tasks at which something happens.
const (
	early   = 2 // 1/2 is submitted before the leader dies, the rest while it does
	killAt  = 5 // 1/5 has ended when it dies
	startAt = 2 // 1/2 has ended when it comes back
)

func (r *run) all(ctx context.Context) error {
	clients, err := r.clients()
	if err != nil {
		return err
	}
	for _, c := range clients {
		defer c.Close()
	}
	watch, stopWatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	counts := make(chan int, 1) // tasks that have ended, newest only
	watching.Go(func() { r.watch(watch, clients, counts) })
	defer watching.Wait()
	defer stopWatch()

	first := len(r.dirs) / early
	if err := r.submit(ctx, clients, 0, first); err != nil {
		return err
	}
	if err := await(ctx, counts, len(r.dirs)/killAt); err != nil {
		return err
	}
	leader, err := r.c.Leader(ctx)
	if err != nil {
		return err
	}
	// The rest is submitted while the leader dies: half before, and the pause
	// is what the other half meets.
	middle := first + (len(r.dirs)-first)/2
	if err := r.submit(ctx, clients, first, middle); err != nil {
		return err
	}
	dead := make(chan error, 1)
	go func() { dead <- r.kill(leader) }()
	if err := errors.Join(r.submit(ctx, clients, middle, len(r.dirs)), <-dead); err != nil {
		return err
	}
	if next, err := r.c.Leader(ctx); err != nil {
		return err
	} else {
		r.p.say("%s leads now", name(next))
	}
	if err := await(ctx, counts, len(r.dirs)/startAt); err != nil {
		return err
	}
	r.p.say("starting %s again", name(leader))
	if err := r.c.StartNode(leader); err != nil {
		return err
	}
	if err := await(ctx, counts, len(r.dirs)); err != nil {
		return err
	}
	return r.c.WaitReady(ctx, leader)
}

// clients makes one client per node, each with the others to fall back on.
func (r *run) clients() ([]*client.Client, error) {
	var out []*client.Client
	for i := range r.c.Nodes {
		order := slices.Concat(r.c.Nodes[i:], r.c.Nodes[:i])
		c, err := r.c.Client(order...)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// submit submits the tasks from..to, task i to node i modulo three, one after
// the other at each node.
func (r *run) submit(ctx context.Context, clients []*client.Client, from, to int) error {
	var wg sync.WaitGroup
	errs := make([]error, len(clients))
	for k, c := range clients {
		wg.Go(func() {
			for i := from; i < to; i++ {
				if i%len(clients) != k {
					continue
				}
				begun := time.Now()
				t, err := c.Submit(ctx, spec(r.opt.Source, r.dirs[i]))
				if err != nil {
					errs[k] = fmt.Errorf("submit the task for %s: %w", r.dirs[i], err)
					return
				}
				r.acknowledged(i, t.ID, begun)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *run) acknowledged(i int, id string, begun time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[i] = id
	// A request that was under way at the kill may have committed before it.
	if !r.killed.IsZero() && r.resumed.IsZero() && begun.After(r.killed) {
		r.resumed = time.Now()
	}
}

func (r *run) kill(leader *cluster.Node) error {
	r.mu.Lock()
	r.killed, r.killedAt = time.Now(), r.p.done()
	r.mu.Unlock()
	r.p.say("kill -9 of %s, which leads", name(leader))
	return leader.Kill()
}

func name(n *cluster.Node) string { return filepath.Base(n.Dir) }

// watch keeps the progress and counts up to date.
func (r *run) watch(ctx context.Context, clients []*client.Client, counts chan int) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		one, cancel := context.WithTimeout(ctx, time.Second)
		s, err := clients[i%len(clients)].Cluster(one, client.Stale(2*time.Second))
		cancel()
		if err != nil {
			continue // the next node knows
		}
		leader := ""
		for _, n := range r.c.Nodes {
			if n.ID == s.Leader {
				leader = name(n)
			}
		}
		r.p.update(s.Queued, s.Running, s.Finished, leader)
		select {
		case <-counts:
		default:
		}
		counts <- s.Finished
	}
}

// await returns once so many tasks have ended.
func await(ctx context.Context, counts <-chan int, want int) error {
	for {
		select {
		case n := <-counts:
			if n >= want {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("wait for %d tasks to end: %w", want, ctx.Err())
		}
	}
}

func logs(c *cluster.Cluster) string {
	out := ""
	for _, n := range c.Nodes {
		out += fmt.Sprintf("\n--- %s\n%s", name(n), n.Log())
	}
	return out
}
