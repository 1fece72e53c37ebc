package fault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// strangers are the process numbers in the history of clients that belong to a
// fault.
const strangers = 100_000

// submit is one recorded submission.
func (s *Strike) submit(ctx context.Context, cl *client.Client, node, key string, spec client.TaskSpec, rules history.Rules) (*client.Task, error) {
	spec.Name = key
	h := s.lab.opt.History
	var id int64
	if h != nil {
		id = h.NextID()
		h.Add(history.Event{Kind: history.Invoke, ID: id, Op: history.Submit, Process: strangers + int(id), Node: node, Key: key, Rules: &rules})
	}
	task, err := cl.Submit(ctx, spec, client.IdempotencyKey(key))
	if h == nil {
		return task, err
	}
	e := history.Event{ID: id, Op: history.Submit, Process: strangers + int(id), Node: node, Key: key}
	if err != nil { // whether it took effect is not looked into
		e.Kind, e.Error = history.Unknown, err.Error()
	} else {
		e.Kind, e.Task, e.Index = history.OK, task.ID, task.Index
	}
	h.Add(e)
	return task, err
}

// nowhere is a task that no node fits: it waits in the queue and expires.
func nowhere(bytes int) (client.TaskSpec, history.Rules) {
	const wait = time.Second
	spec := client.TaskSpec{
		Command: []string{"true"}, Constraints: []client.Constraint{{Key: "chaos.holdfast/nowhere", Op: "exists"}},
		Timeouts: client.Timeouts{Queue: client.Duration(wait)},
	}
	if bytes > 0 {
		spec.StdinBase64 = make([]byte, bytes)
		_, _ = rand.Read(spec.StdinBase64) // never fails
	}
	return spec, history.Rules{QueueTimeout: int64(wait)}
}

// dial makes a client of one node over the network.
func (s *Strike) dial(n *Node) (*client.Client, error) {
	return client.New(client.Config{
		Addrs: []string{n.Addr}, Token: s.lab.cluster.AdminToken, CAPin: s.lab.cluster.CAPin,
		Timeout: 2 * time.Second, Retry: client.Retries{Attempts: 1},
	})
}

// clientTwice sends every one of its writes to two nodes at once, under one
// key. They must become one task.
func clientTwice(s *Strike) actions {
	var pairs, both atomic.Int64
	var wrong atomic.Pointer[Violation]
	var stop func() error
	return actions{
		inject: func(ctx context.Context) error {
			var clients []*client.Client
			nodes := s.lab.Nodes()
			for _, n := range nodes {
				cl, err := s.dial(n)
				if err != nil {
					return err
				}
				clients = append(clients, cl)
			}
			i := 0
			work := loop(ctx, func(ctx context.Context) error {
				i++
				key := fmt.Sprintf("twice-%d-%d", s.rng.Uint64(), i)
				spec, rules := nowhere(0)
				var got [2]*client.Task
				var wg sync.WaitGroup
				for j := range got {
					n := (i + j) % len(nodes)
					wg.Go(func() { got[j], _ = s.submit(ctx, clients[n], nodes[n].Name, key, spec, rules) })
				}
				wg.Wait()
				pairs.Add(1)
				if got[0] != nil && got[1] != nil {
					both.Add(1)
					if got[0].ID != got[1].ID {
						wrong.Store(&Violation{fmt.Sprintf("one request became the tasks %s and %s", got[0].ID, got[1].ID)})
					}
				}
				return pass(ctx, 5*time.Millisecond)
			})
			stop = func() error {
				err := work()
				for _, cl := range clients {
					cl.Close()
				}
				return err
			}
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			err := until(ctx, "a write that both nodes answered", func() error {
				if v := wrong.Load(); v != nil {
					return v
				}
				if both.Load() == 0 {
					return fmt.Errorf("%d pairs", pairs.Load())
				}
				return nil
			})
			return "writes sent to two nodes at once were answered by both", err
		},
		heal: func(context.Context) error {
			if stop == nil {
				return nil
			}
			err := stop()
			if v := wrong.Load(); v != nil {
				err = errors.Join(err, v)
			}
			return err
		},
		healed: func(context.Context) (string, error) {
			return fmt.Sprintf("%d writes were sent twice, %d answered twice by one task", pairs.Load(), both.Load()), nil
		},
	}
}

// herd has many new clients ask at once, over and over, each on a connection
// of its own.
func herd(s *Strike) actions {
	size := s.Step.With.Count("clients")
	var answered, failed atomic.Int64
	var stop func() error
	return actions{
		inject: func(ctx context.Context) error {
			stop = loop(ctx, func(ctx context.Context) error {
				nodes := s.lab.Nodes()
				var wg sync.WaitGroup
				for i := range size {
					wg.Go(func() {
						cl, err := s.dial(nodes[i%len(nodes)])
						if err != nil {
							failed.Add(1)
							return
						}
						defer cl.Close()
						if _, err := cl.ListPage(ctx, client.ListFilter{Limit: 10}); err != nil {
							failed.Add(1)
							return
						}
						answered.Add(1)
					})
				}
				wg.Wait()
				return ctx.Err()
			})
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			err := until(ctx, "a whole herd", func() error {
				if n := answered.Load() + failed.Load(); n < int64(size) {
					return fmt.Errorf("%d of %d were answered or refused", n, size)
				}
				return nil
			})
			return fmt.Sprintf("%d answered, %d refused or late", answered.Load(), failed.Load()), err
		},
		heal: func(context.Context) error {
			if stop == nil {
				return nil
			}
			return stop()
		},
		healed: func(ctx context.Context) (string, error) {
			for _, n := range s.lab.Nodes() {
				if s.lab.Owned(n) {
					continue
				}
				if err := s.lab.serves(ctx, n); err != nil {
					return "", err
				}
			}
			return "every node serves", nil
		},
	}
}

// bulk is the size of a task's input that fills the log fast.
const bulk = 40 << 10

// fillLog submits tasks that fill the log, until a snapshot must be made.
func (s *Strike) fillLog(ctx context.Context) (stop func() error) {
	i := 0
	return loop(ctx, func(ctx context.Context) error {
		nodes := slices.DeleteFunc(s.lab.Nodes(), func(n *Node) bool { return s.lab.Owned(n) && !slices.Contains(s.Targets, n) })
		var wg sync.WaitGroup
		const atOnce = 16
		for range atOnce {
			i++
			key := fmt.Sprintf("bulk-%d-%d", s.rng.Uint64(), i)
			n := nodes[i%len(nodes)]
			wg.Go(func() {
				cl, err := n.asker.client(n.Dir)
				if err != nil {
					return
				}
				spec, rules := nowhere(bulk)
				one, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				_, _ = s.submit(one, cl, n.Name, key, spec, rules) // recorded
			})
		}
		wg.Wait()
		return ctx.Err()
	})
}

// promoteDuringSnapshot adds a node while the log overflows into snapshots, so
// that it gets one and is promoted meanwhile.
func promoteDuringSnapshot(s *Strike) actions {
	a := join(s)
	add, heal := a.inject, a.heal
	var stop func() error
	var seen string
	a.inject = func(ctx context.Context) error {
		v := s.lab.Look(ctx)
		if v.Leader == nil {
			return ErrBusy
		}
		m := moments["snapshot"]
		w, err := newWatch(v.Leader.Dir+"/"+m.folder, m.mask)
		if err != nil {
			return err
		}
		defer w.close()
		stop = s.fillLog(ctx)
		if seen, err = w.next(ctx, m.names...); err != nil {
			return fmt.Errorf("wait for %s: %w", m.what, err)
		}
		return add(ctx)
	}
	bit := a.bit
	a.bit = func(ctx context.Context) (string, error) {
		text, err := bit(ctx)
		return text + " while the leader wrote snapshot " + seen, err
	}
	a.heal = func(ctx context.Context) error {
		var err error
		if stop != nil {
			err = stop()
		}
		return errors.Join(err, heal(ctx))
	}
	return a
}
