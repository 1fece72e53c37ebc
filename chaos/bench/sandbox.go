package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/proc"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

func runSandbox(ctx context.Context, b *bench) error {
	b.set.Define(
		figures.Figure{ID: "sandbox", What: "whole life of a task, sandbox and /bin/true", Unit: "/s", Stat: figures.Median, Bound: figures.AtLeast, Target: 600},
		figures.Figure{ID: "sandbox-run", What: "- from its start to its end as the cluster saw them: median", Unit: "ms", Stat: figures.Median},
		figures.Figure{ID: "sandbox-wall", What: "- in its sandbox, as the worker measured: median", Unit: "ms", Stat: figures.Median},
		figures.Figure{ID: "sandbox-cpu-node", What: "- CPU of the three nodes and their helpers per task", Unit: "ms", Stat: figures.Median},
		figures.Figure{ID: "sandbox-cpu-task", What: "- CPU in the sandbox per task, as its result says", Unit: "ms", Stat: figures.Median},
		figures.Figure{ID: "sandbox-cpu-host", What: "- CPU of the whole machine per task, both cores", Unit: "ms", Stat: figures.Median},
	)
	tasks := 10_000
	if b.quick {
		tasks = 60
	}
	for round := range b.repeat {
		got, err := b.sandboxLives(ctx, tasks)
		if err != nil {
			return err
		}
		b.say("round %d: %s", round+1, compact(got))
		for id, v := range got {
			if err := b.set.Add(id, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) sandboxLives(ctx context.Context, tasks int) (_ map[string]float64, err error) {
	c, err := b.start(ctx, true, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop(c, folder(c))) }()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cl, err := c.Client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	if _, err := b.lives(ctx, cl, 20); err != nil { // the first sandboxes warm the host
		return nil, err
	}
	before, hostBefore, err := used(c)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	ids, err := b.lives(ctx, cl, tasks)
	if err != nil {
		return nil, err
	}
	took := time.Since(begun)
	after, hostAfter, err := used(c)
	if err != nil {
		return nil, err
	}
	run, wall, cpu, err := durations(ctx, cl, ids)
	if err != nil {
		return nil, err
	}
	n := float64(tasks)
	return map[string]float64{
		"sandbox": n / took.Seconds(), "sandbox-run": milliseconds(run), "sandbox-wall": milliseconds(wall),
		"sandbox-cpu-node": milliseconds(after-before) / n, "sandbox-cpu-task": milliseconds(cpu) / n,
		"sandbox-cpu-host": milliseconds(hostAfter-hostBefore) / n,
	}, nil
}

// lives submits tasks in batches and returns when all have succeeded.
func (b *bench) lives(ctx context.Context, cl *client.Client, n int) ([]string, error) {
	before, err := cl.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for len(ids) < n {
		specs := make([]client.TaskSpec, min(batchTasks, n-len(ids)))
		for i := range specs {
			specs[i] = client.TaskSpec{Command: []string{"/bin/true"}, Resources: client.Resources{MemoryBytes: 64 << 20}}
		}
		r, err := cl.SubmitBatch(ctx, specs)
		if err != nil {
			return nil, err
		}
		ids = append(ids, r.IDs...)
	}
	return ids, cluster.Until(ctx, "the tasks' end", func(ctx context.Context) error {
		s, err := cl.Cluster(ctx)
		if err != nil {
			return err
		}
		if done := s.Finished - before.Finished; done < n {
			return fmt.Errorf("%d of %d", done, n)
		}
		return nil
	})
}

// used is the CPU time that the nodes, their helpers included, and the whole
// machine have used so far.
func used(c *cluster.Cluster) (nodes, host time.Duration, err error) {
	for _, n := range c.Running() {
		u, err := proc.Tree(n.PID())
		if err != nil {
			return 0, 0, err
		}
		nodes += u.CPU + u.ChildrenCPU
	}
	host, err = proc.Host()
	return nodes, host, err
}

// durations are the medians of what the cluster and the workers saw of tasks,
// and the CPU time of all of them. They must all have succeeded.
func durations(ctx context.Context, cl *client.Client, ids []string) (run, wall, cpu time.Duration, err error) {
	var runs, walls []time.Duration
	for _, id := range ids {
		t, err := cl.Get(ctx, id)
		if err != nil {
			return 0, 0, 0, err
		}
		if t.State != "succeeded" || t.StartedAt == nil || t.FinishedAt == nil || t.Result == nil {
			return 0, 0, 0, fmt.Errorf("task %s: %s, %+v", id, t.State, t.Result)
		}
		runs = append(runs, t.FinishedAt.Sub(*t.StartedAt))
		walls = append(walls, time.Duration(t.Result.Usage.WallSeconds*float64(time.Second)))
		cpu += time.Duration(t.Result.Usage.CPUSeconds * float64(time.Second))
	}
	slices.Sort(runs)
	slices.Sort(walls)
	return runs[len(runs)/2], walls[len(walls)/2], cpu, nil
}
