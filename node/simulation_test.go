package node_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
	"holdfast/node/scheduler"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
	"holdfast/node/worker/workertest"
)

func realScheduler(l workertest.Leader) workertest.Scheduler {
	return scheduler.NewLoop(scheduler.Config{State: l.State, Propose: l.Propose})
}

// The state machine, the scheduler, the leases, the hub and the workers as
// they are, in simulated time: workers crash and are cut off, leaders change,
// and some go on believing that they lead.
//
// guards P1, P2, P3, P9.
func TestSimulatedCluster(t *testing.T) {
	const tasks, nodes = 1000, 5
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			c := workertest.New(t, workertest.Config{Nodes: nodes, Lease: 3 * time.Second, Latency: 2 * time.Millisecond,
				Capacity: worker.Capacity{CPUMillis: 4000, MemoryBytes: 1 << 30}, Scheduler: realScheduler,
				Script: func(k protocol.Key) workertest.Script {
					return workertest.Script{Runs: time.Duration(k.Task%9) * 250 * time.Millisecond, Exit: worker.Exit{Reason: fsm.EndExit},
						Dies: time.Duration(k.Task%4) * 100 * time.Millisecond, Stubborn: k.Task%3 == 0}
				}})
			defer c.Close()
			first := c.Submit(tasks, fsm.Shape{CPUMillis: 500, RetryLimit: 3}, time.Second)
			shake(c, random, nodes)
			c.Await(5*time.Minute, "every task is terminal", func() bool { return c.Terminal(first, tasks) == tasks })
			for id := first; id < first+tasks; id++ {
				if v, _ := c.Leader().State.Task(id); v.State != fsm.Succeeded {
					t.Errorf("seed %d: %s is in state %d: %+v", seed, id, v.State, v.Result)
				}
			}
			for _, problem := range c.Book.Problems() {
				t.Errorf("seed %d: %s", seed, problem)
			}
			c.Await(time.Minute, "all capacity is free again", func() bool {
				for _, n := range c.Leader().State.Nodes() {
					if n.UsedCPUMillis != 0 || n.Superseded != 0 {
						return false
					}
				}
				return true
			})
			for _, n := range c.Nodes[1:] {
				if n.State.Index() == c.Nodes[0].State.Index() && n.State.Hash() != c.Nodes[0].State.Hash() {
					t.Errorf("seed %d: %s and %s differ at index %d", seed, n.ID, c.Nodes[0].ID, n.State.Index())
				}
			}
		})
	}
}

// shake breaks and mends things for about a minute of simulated time.
func shake(c *workertest.Cluster, random *rand.Rand, nodes int) {
	down, cut := -1, -1
	for range 60 {
		wait(time.Duration(random.IntN(2000)) * time.Millisecond)
		leader := 0
		for i, n := range c.Nodes {
			if n == c.Leader() {
				leader = i
			}
		}
		i := random.IntN(nodes)
		switch action := random.IntN(6); {
		case action < 2 && down >= 0:
			c.Start(down)
			down = -1
		case action < 2 && i != cut:
			down = i
			c.Crash(i)
		case action < 4 && cut >= 0:
			c.Heal(cut)
			cut = -1
		case action < 4 && i != leader && i != down:
			cut = i
			c.Cut(i)
		case action >= 4 && i != leader && i != cut:
			c.Lead(i)
			if random.IntN(2) == 0 {
				c.Depose(leader)
			}
		}
	}
	if down >= 0 {
		c.Start(down)
	}
	if cut >= 0 {
		c.Heal(cut)
	}
}

// wait lets simulated time pass.
func wait(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	<-ctx.Done()
}

// The whole life of tasks in memory, in real time: submit, plan, assign,
// dispatch, a no-op executor, report. No disk, no network, no raft: what is
// left is this process's own work, for three nodes together.
func BenchmarkTaskLife(b *testing.B) {
	const tasks = 10_000
	c := workertest.New(b, workertest.Config{Nodes: 3, Lease: 3 * time.Second, Scheduler: realScheduler,
		Capacity: worker.Capacity{CPUMillis: 100_000, MemoryBytes: 1 << 40},
		Script: func(protocol.Key) workertest.Script {
			return workertest.Script{Exit: worker.Exit{Reason: fsm.EndExit}}
		}})
	defer c.Close()
	for b.Loop() {
		c.Submit(tasks, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Minute, "all done", func() bool {
			n := c.Leader().State.Counts()
			return n.Queued == 0 && n.Running == 0
		})
	}
	b.ReportMetric(tasks*float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
