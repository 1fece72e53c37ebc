package worker_test

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/protocol"
	"holdfast/node/worker/workertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// forever runs until it is killed, and takes a while to die.
func forever(dies time.Duration) func(protocol.Key) workertest.Script {
	return func(protocol.Key) workertest.Script { return workertest.Script{Runs: 100 * time.Hour, Dies: dies} }
}

// guards P3: a worker that is cut off at any moment between two renewals has
// killed everything before the leader gives its tasks away.
func TestCutOffWorkerKillsFirst(t *testing.T) {
	for offset := range 12 {
		simulate(t, workertest.Config{Script: forever(400 * time.Millisecond)}, func(t *testing.T, c *workertest.Cluster) {
			first := c.Submit(24, fsm.Shape{CPUMillis: 500}, 0) // fills all three
			c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 24 })
			time.Sleep(time.Duration(offset) * 50 * time.Millisecond)
			c.Cut(2)
			cut := time.Now()
			c.Await(5*time.Second, "the cut-off worker killed its own", func() bool { return c.Nodes[2].Worker.Running() == 0 })
			killed := time.Since(cut)
			if lost := c.Leader().State.Running("node-2"); len(lost) != 8 {
				t.Errorf("when the last attempt died the leader had already given away %d of 8", 8-len(lost))
			}
			c.Await(5*time.Second, "the leader declared it lost", func() bool { return len(c.Leader().State.Running("node-2")) == 0 })
			t.Logf("offset %d: killed after %v, given away after %v", offset, killed, time.Since(cut))
			c.Heal(2)
			c.Await(5*time.Second, "it is back and works", func() bool { return len(c.Leader().State.Running("node-2")) == 8 && c.Book.Live() == 24 })
			if v, _ := c.Leader().State.Task(first); v.State != fsm.Running {
				t.Errorf("%s is in state %d", first, v.State)
			}
		})
	}
}

// guards P3: timers stand still while the machine sleeps, the lease does not.
// What was assigned to a worker that had nothing to watch is watched too.
func TestFenceAfterASleep(t *testing.T) {
	play(t, forever(0), func(t *testing.T, l *leader) {
		l.accept()
		l.welcome()
		time.Sleep(simLease / 8) // the worker idles: it looks at nothing before the lease's end
		l.assign(key(1, 1))
		if got := l.w.Running(); got != 1 {
			t.Fatalf("%d attempts run, want 1", got)
		}
		l.ahead.Store(int64(simLease)) // the machine slept, and its timers with it
		time.Sleep(simLease / 10)
		if got := l.w.Running(); got != 0 {
			t.Errorf("%d attempts outlived the lease", got)
		}
	})
}

// guards P5: a change of leader, also one that takes as long as the timers
// take, does not disturb running tasks.
func TestChangeOfLeaderDisturbsNothing(t *testing.T) {
	simulate(t, workertest.Config{Script: forever(0)}, func(t *testing.T, c *workertest.Cluster) {
		c.Submit(24, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 24 })
		for i := range 9 {
			old, next := i%3, (i+1)%3
			c.Cut(old)
			time.Sleep(1500 * time.Millisecond) // no leader that anybody reaches
			c.Lead(next)
			c.Depose(old)
			c.Heal(old)
			time.Sleep(5 * time.Second)
		}
		if c.Book.Started() != 24 {
			t.Errorf("%d attempts were started for 24 tasks", c.Book.Started())
		}
	})
}

// guards P3: a deposed leader that does not know it cannot extend a lease: its
// worker fences itself before the new leader gives the tasks away.
func TestDeposedLeaderCannotExtend(t *testing.T) {
	simulate(t, workertest.Config{Script: forever(400 * time.Millisecond)}, func(t *testing.T, c *workertest.Cluster) {
		c.Submit(24, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 24 })
		// Nodes 0 and 2 stay together on the wrong side: node 2's worker goes on
		// renewing with node 0, which still believes that it leads.
		old := c.Nodes[0]
		c.Isolate(old, c.Nodes[2])
		c.Lead(1)
		begin := time.Now()
		c.Await(4*time.Second, "the worker of the deposed leader killed its own", func() bool { return c.Nodes[2].Worker.Running() == 0 })
		if since := time.Since(begin); since >= simLease {
			t.Errorf("it took %v, the new leader waits %v", since, simLease)
		}
		c.Await(time.Minute, "the tasks run elsewhere", func() bool { return len(c.Leader().State.Running("node-1")) == 8 && c.Book.Live() == 8 })
	})
}

// guards P3: what a fenced attempt still says does not count as a success.
func TestFencedAttemptsReportLost(t *testing.T) {
	script := func(protocol.Key) workertest.Script {
		return workertest.Script{Runs: 2700 * time.Millisecond, Dies: 300 * time.Millisecond, Exit: worker.Exit{Reason: fsm.EndExit}}
	}
	simulate(t, workertest.Config{Nodes: 2, Script: script}, func(t *testing.T, c *workertest.Cluster) {
		first := c.Submit(16, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 16 })
		c.Cut(1)
		c.Await(5*time.Second, "the worker fenced itself", func() bool { return c.Nodes[1].Worker.Running() == 0 })
		c.Heal(1) // before the leader's expiry, or just after: both are fine
		c.Await(30*time.Second, "all done", func() bool { return c.Terminal(first, 16) == 16 })
		again := 0
		for id := first; id < first+16; id++ {
			v, _ := c.Leader().State.Task(id)
			if v.State != fsm.Succeeded {
				t.Errorf("%s: state %d", id, v.State)
			}
			if v.Attempt > 1 {
				again++
			}
		}
		if again != 8 {
			t.Errorf("%d tasks needed another attempt, want the 8 of the fenced worker", again)
		}
	})
}

func TestCancelKillsWithGrace(t *testing.T) {
	script := func(protocol.Key) workertest.Script {
		return workertest.Script{Runs: time.Hour, Stubborn: true, Dies: 10 * time.Millisecond}
	}
	simulate(t, workertest.Config{Nodes: 1, Script: script}, func(t *testing.T, c *workertest.Cluster) {
		id := c.Submit(1, fsm.Shape{CPUMillis: 500}, 2*time.Second)
		c.Await(time.Second, "it runs", func() bool { return c.Book.Live() == 1 })
		begin := time.Now()
		c.Do(c.Leader(), fsm.CmdCancel, fsm.Cancel{Tasks: []fsm.TaskID{id}})
		if v, _ := c.Leader().State.Task(id); v.State != fsm.Cancelled {
			t.Fatalf("state %d", v.State)
		}
		c.Await(5*time.Second, "it is dead", func() bool { return c.Book.Live() == 0 })
		if took := time.Since(begin); took < 2*time.Second || took > 2100*time.Millisecond {
			t.Errorf("it died after %v, the grace is 2 s", took)
		}
		c.Await(time.Second, "its capacity is free again", func() bool {
			n, _ := c.Leader().State.Node("node-0")
			return n.UsedCPUMillis == 0 && n.Superseded == 0
		})
	})
}

func TestRunTimeout(t *testing.T) {
	simulate(t, workertest.Config{Nodes: 1, Script: forever(20 * time.Millisecond)}, func(t *testing.T, c *workertest.Cluster) {
		id := c.Submit(1, fsm.Shape{CPUMillis: 500, RunTimeout: 5 * time.Second}, time.Second)
		c.Await(5500*time.Millisecond, "it ended", func() bool { return c.Terminal(id, 1) == 1 })
		v, _ := c.Leader().State.Task(id)
		if v.State != fsm.Failed || v.EndReason != fsm.EndTimeout || v.Result.WallTime < 5*time.Second {
			t.Errorf("state %d, reason %d, result %+v", v.State, v.EndReason, v.Result)
		}
	})
}

func TestStartFailureIsReported(t *testing.T) {
	script := func(protocol.Key) workertest.Script { return workertest.Script{StartFail: io.ErrUnexpectedEOF} }
	simulate(t, workertest.Config{Nodes: 1, Script: script}, func(t *testing.T, c *workertest.Cluster) {
		id := c.Submit(1, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "it ended", func() bool { return c.Terminal(id, 1) == 1 })
		if v, _ := c.Leader().State.Task(id); v.EndReason != fsm.EndStartFailed || v.Result.Message != io.ErrUnexpectedEOF.Error() {
			t.Errorf("reason %d, result %+v", v.EndReason, v.Result)
		}
	})
}

// What the sandbox did without is in the attempt's result, whoever ended it.
func TestWeakerIsReported(t *testing.T) {
	weaker := []string{"landlock"}
	script := func(k protocol.Key) workertest.Script {
		return workertest.Script{Runs: time.Second, Exit: worker.Exit{Reason: fsm.EndExit, Weaker: weaker}}
	}
	simulate(t, workertest.Config{Nodes: 1, Script: script}, func(t *testing.T, c *workertest.Cluster) {
		id := c.Submit(1, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(5*time.Second, "it ended", func() bool { return c.Terminal(id, 1) == 1 })
		if v, _ := c.Leader().State.Task(id); v.State != fsm.Succeeded || !slices.Equal(v.Result.Weaker, weaker) {
			t.Errorf("state %d, result %+v", v.State, v.Result)
		}
	})
}

func TestDrain(t *testing.T) {
	script := func(k protocol.Key) workertest.Script {
		s := workertest.Script{Runs: time.Second, Exit: worker.Exit{Reason: fsm.EndExit}}
		if k.Task%2 == 0 {
			s.Runs = time.Hour
		}
		return s
	}
	simulate(t, workertest.Config{Nodes: 2, Script: script}, func(t *testing.T, c *workertest.Cluster) {
		c.Submit(16, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(500*time.Millisecond, "all run", func() bool { return c.Book.Live() == 16 })
		c.Do(c.Leader(), fsm.CmdDrainNode, fsm.DrainNode{Node: "node-1", Drain: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		mine := c.Leader().State.Running("node-1")
		if err := c.Nodes[1].Worker.Drain(ctx, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("drained in %v, want the grace of 5 s", took)
		}
		for _, a := range mine {
			v, _ := c.Leader().State.Task(a.Task)
			if a.Task%2 == 1 && v.State != fsm.Succeeded {
				t.Errorf("%s had time to end, and is in state %d", a.Task, v.State)
			}
			if a.Task%2 == 0 && (v.State.Terminal() || v.Failures != 0 || v.Result == nil || v.Result.Reason != fsm.EndShutdown) {
				t.Errorf("%s: %+v", a.Task, v)
			}
		}
	})
}

// A crash between the assignment and its delivery, and a restart: the attempts
// of the dead process are lost, never run twice under one number.
func TestRestartLosesAttempts(t *testing.T) {
	simulate(t, workertest.Config{Nodes: 2, Script: forever(0)}, func(t *testing.T, c *workertest.Cluster) {
		c.Submit(8, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 8 })
		c.Crash(1)
		c.Start(1)
		c.Await(10*time.Second, "all run again", func() bool { return c.Book.Live() == 8 && c.Leader().State.Counts().Running == 8 })
		if n := c.Leader().State.Counts(); n.Queued != 0 {
			t.Errorf("counts %+v", n)
		}
	})
}

func TestRemovedNodeStops(t *testing.T) {
	simulate(t, workertest.Config{Nodes: 2, Script: forever(0), MayBeRemoved: true}, func(t *testing.T, c *workertest.Cluster) {
		c.Submit(16, fsm.Shape{CPUMillis: 500}, 0)
		c.Await(time.Second, "all run", func() bool { return c.Book.Live() == 16 })
		c.Do(c.Leader(), fsm.CmdRemoveNode, fsm.RemoveNode{Node: "node-1"})
		c.Await(time.Second, "its worker stopped at once", func() bool { return c.Nodes[1].Worker.Running() == 0 && c.Book.Live() == 8 })
	})
}
