package workload

import (
	"context"
	"sync"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// recorder is one client of the mix, with a twin that sends again what it has
// sent.
type recorder struct {
	l        *Load
	s, twin  *session
	ops      choice
	kinds    choice
	node     string // the one it asks first
	twinNode string
	every    time.Duration
}

// maxTries is how often a client asks: with the pauses between, longer than
// two elections.
const maxTries = 8

func (l *Load) newRecorder(i int) (*recorder, error) {
	r := &recorder{l: l, ops: choose(l.cfg.Mix), kinds: choose(l.cfg.Tasks)}
	nodes := l.from(i)
	var err error
	if r.s, err = l.newSession(clientProcess+i, nodes, maxTries, l.cfg.Timeout, l.cfg.Give); err != nil {
		return nil, err
	}
	other := l.from(i + 1)
	if r.twin, err = l.newSession(clientProcess+twinOffset+i, other, maxTries, l.cfg.Timeout, l.cfg.Give); err != nil {
		return nil, err
	}
	r.node, r.twinNode = nodes[0].Name, other[0].Name
	r.every = time.Duration(float64(time.Second) * float64(l.cfg.Clients) / l.cfg.Rate)
	return r, nil
}

// run does one operation per beat. What is under way when ctx ends goes on to
// its own end: a call that is cut off is Unknown, and nobody would have cut it.
func (r *recorder) run(ctx context.Context) {
	calls := context.WithoutCancel(ctx)
	every(ctx, r.every, func() { r.one(calls, r.ops.draw(r.s.rng.IntN)) })
}

func (r *recorder) one(ctx context.Context, op string) {
	s := r.s
	task := r.l.some(s.rng.IntN)
	if task == "" && (op == "get" || op == "stale" || op == "cancel" || op == "wait") {
		op = "submit"
	}
	switch op {
	case "submit":
		r.l.remember(s.submit(ctx, history.Submit, s.key(), r.node, r.kinds.draw(s.rng.IntN), 1)...)
	case "batch":
		r.l.remember(s.submit(ctx, history.Submit, s.key(), r.node, r.kinds.draw(s.rng.IntN), r.l.cfg.Batch)...)
	case "get":
		s.get(ctx, task, r.node)
	case "stale":
		r.stale(ctx, task)
	case "list":
		s.page(ctx, client.ListFilter{Newest: true, Limit: 20}, r.node, 0, false)
	case "cancel":
		s.cancel(ctx, task, s.key(), r.node)
	case "wait":
		r.wait(ctx, task)
	case "twice":
		r.twice(ctx)
	case "abandon":
		r.abandon(ctx)
	}
}

// stale asks for any age, or for one that a busy follower can miss.
func (r *recorder) stale(ctx context.Context, task string) {
	ages := []time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second}
	age := ages[r.s.rng.IntN(len(ages))]
	r.s.read(ctx, history.Event{Op: history.Get, Task: task, Node: r.node, Stale: true, MaxAge: int64(age)}, func(ctx context.Context) (*client.Task, error) {
		return r.s.cl.Get(ctx, task, client.Stale(age))
	})
}

// wait waits for a task's end, but not for long.
func (r *recorder) wait(ctx context.Context, task string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r.s.read(ctx, history.Event{Op: history.Wait, Task: task, Node: r.node}, func(ctx context.Context) (*client.Task, error) {
		return r.s.cl.Wait(ctx, task)
	})
}

// twice sends a request by two clients through two nodes at once.
func (r *recorder) twice(ctx context.Context) {
	key, kind := r.s.key(), r.kinds.draw(r.s.rng.IntN)
	var other sync.WaitGroup
	other.Go(func() { r.twin.submit(ctx, history.Submit, key, r.twinNode, kind, 1) })
	r.l.remember(r.s.submit(ctx, history.Submit, key, r.node, kind, 1)...)
	other.Wait()
}

// abandon gives a request up soon after it was sent, as if its answer had been
// lost, and sends it again.
func (r *recorder) abandon(ctx context.Context) {
	key, kind := r.s.key(), r.kinds.draw(r.s.rng.IntN)
	short, cancel := context.WithTimeout(ctx, time.Duration(1+r.s.rng.IntN(8000))*time.Microsecond)
	ids := r.s.submit(short, history.Submit, key, r.node, kind, 1)
	cancel()
	if ids == nil {
		ids = r.twin.submit(ctx, history.Submit, key, r.twinNode, kind, 1)
	}
	r.l.remember(ids...)
}
