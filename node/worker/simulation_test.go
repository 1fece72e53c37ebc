package worker_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
	"holdfast/node/worker/workertest"
)

// greedy is the least scheduler that works: first task, first worker with room.
type greedy struct {
	leader workertest.Leader
	wake   chan struct{}
}

func newGreedy(l workertest.Leader) workertest.Scheduler {
	return &greedy{leader: l, wake: make(chan struct{}, 1)}
}

func (g *greedy) Notify([]fsm.Change) { g.Wake() }
func (g *greedy) Wake() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *greedy) Run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		view := g.leader.State.PlanView(256, 16)
		var plan []fsm.Assignment
		for _, class := range view.Classes {
			for _, task := range class.Tasks {
				for i := range view.Workers {
					w := &view.Workers[i]
					if w.FreeCPUMillis >= int64(class.Shape.CPUMillis) && w.FreeSlots > 0 {
						w.FreeCPUMillis -= int64(class.Shape.CPUMillis)
						w.FreeSlots--
						plan = append(plan, fsm.Assignment{Task: task.ID, Attempt: task.NextAttempt, Node: w.ID})
						break
					}
				}
			}
		}
		var commands [][]byte
		if deadline, ok := g.leader.State.NextDeadline(); ok && deadline <= time.Now().UnixNano() {
			c, _ := fsm.NewCommand(fsm.CmdTick, fsm.RequestID{}, "", nil)
			commands = append(commands, c)
		}
		if len(plan) > 0 {
			c, _ := fsm.NewCommand(fsm.CmdAssign, fsm.RequestID{}, "", fsm.Assign{Assignments: plan})
			commands = append(commands, c)
		}
		if len(commands) > 0 {
			_, _ = g.leader.Propose(ctx, commands)
		}
		select {
		case <-ctx.Done():
		case <-g.wake:
		case <-tick.C:
		}
	}
}

const simLease = 3 * time.Second

func succeed(d time.Duration) func(protocol.Key) workertest.Script {
	return func(protocol.Key) workertest.Script {
		return workertest.Script{Runs: d, Exit: worker.Exit{Reason: fsm.EndExit}, Dies: 100 * time.Millisecond}
	}
}

func simulate(t *testing.T, cfg workertest.Config, f func(t *testing.T, c *workertest.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if cfg.Nodes == 0 {
			cfg.Nodes = 3
		}
		if cfg.Lease == 0 {
			cfg.Lease = simLease
		}
		if cfg.Capacity == (worker.Capacity{}) {
			cfg.Capacity = worker.Capacity{CPUMillis: 4000, MemoryBytes: 1 << 30}
		}
		if cfg.Scheduler == nil {
			cfg.Scheduler = newGreedy
		}
		if cfg.Latency == 0 {
			cfg.Latency = time.Millisecond
		}
		c := workertest.New(t, cfg)
		defer c.Close()
		f(t, c)
		for _, problem := range c.Book.Problems() {
			t.Error("P3: ", problem)
		}
	})
}

// guards P2, P3: every task ends once, no attempts overlap.
func TestManyTasks(t *testing.T) {
	simulate(t, workertest.Config{Script: succeed(20 * time.Millisecond)}, func(t *testing.T, c *workertest.Cluster) {
		first := c.Submit(1000, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Minute, "all done", func() bool { return c.Terminal(first, 1000) == 1000 })
		for id := first; id < first+1000; id++ {
			v, _ := c.Leader().State.Task(id)
			if v.State != fsm.Succeeded || v.Attempt != 1 {
				t.Fatalf("%s: state %d, attempt %d", id, v.State, v.Attempt)
			}
		}
	})
}

// guards P1, P2, P3, P5: workers crash and are cut off, leaders change and are
// deposed without knowing; every task still ends, without an overlap.
func TestChaos(t *testing.T) {
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 1))
		runs := func(k protocol.Key) workertest.Script {
			return workertest.Script{Runs: time.Duration(k.Task%7) * 300 * time.Millisecond, Exit: worker.Exit{Reason: fsm.EndExit},
				Dies: time.Duration(k.Task%5) * 100 * time.Millisecond, Stubborn: k.Task%3 == 0}
		}
		simulate(t, workertest.Config{Nodes: 5, Script: runs}, func(t *testing.T, c *workertest.Cluster) {
			first := c.Submit(1000, fsm.Shape{CPUMillis: 500, RetryLimit: 100}, time.Second)
			down, cut := -1, -1
			for range 40 {
				time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
				leader := 0
				for i, n := range c.Nodes {
					if n == c.Leader() {
						leader = i
					}
				}
				switch random.IntN(6) {
				case 0, 1:
					if down >= 0 {
						c.Start(down)
						down = -1
					} else if i := random.IntN(5); i != cut {
						down = i
						c.Crash(i)
					}
				case 2, 3:
					if cut >= 0 {
						c.Heal(cut)
						cut = -1
					} else if i := random.IntN(5); i != leader && i != down {
						cut = i
						c.Cut(i)
					}
				default:
					if i := random.IntN(5); i != leader && i != cut {
						c.Lead(i)
						if random.IntN(2) == 0 {
							c.Depose(leader)
						}
					}
				}
			}
			if down >= 0 {
				c.Start(down)
			}
			if cut >= 0 {
				c.Heal(cut)
			}
			c.Await(5*time.Minute, "all done", func() bool { return c.Terminal(first, 1000) == 1000 })
			for id := first; id < first+1000; id++ {
				if v, _ := c.Leader().State.Task(id); v.State != fsm.Succeeded {
					t.Errorf("%s ended in state %d (%+v)", id, v.State, v.Result)
				}
			}
			t.Logf("seed %d: %d attempts", seed, c.Book.Started())
		})
	}
}
