package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/proc"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

func runMillion(ctx context.Context, b *bench) (err error) {
	n := fmt.Sprintf("%d queued tasks: ", b.tasks)
	b.set.Define(
		figures.Figure{ID: "memory", What: n + "heap of the state, each", Unit: "bytes", Stat: figures.Median, Bound: figures.AtMost, Target: 600},
		figures.Figure{ID: "rss", What: n + "whole process, each", Unit: "bytes", Stat: figures.Median},
		figures.Figure{ID: "fill", What: n + "submitted by RPC, 1,000 per request", Unit: "/s", Stat: figures.Median},
		figures.Figure{ID: "restart-follower", What: n + "a follower killed and started, until it serves", Unit: "s", Stat: figures.Max, Bound: figures.AtMost, Target: 3},
		figures.Figure{ID: "restart-all", What: n + "every node killed and started, until the first write", Unit: "s", Stat: figures.Max, Bound: figures.AtMost, Target: 3},
		figures.Figure{ID: "snapshot", What: n + "p999 of writes while a snapshot is taken", Unit: "ms", Stat: figures.Median, Bound: figures.AtMost, Target: 50},
		figures.Figure{ID: "snapshot-took", What: n + "time that a snapshot takes", Unit: "ms", Stat: figures.Median},
	)
	m, err := b.goBench(ctx, b.nodeTest, goBench{id: "memory", name: "BenchmarkQueuedMemory", count: b.tasks, quick: b.tasks})
	if err != nil {
		return err
	}
	if err := b.set.Add("memory", m["heap-B/task"]); err != nil {
		return err
	}
	c, err := b.start(ctx, false, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(c, folder(c))) }()
	if err := b.fill(ctx, c); err != nil {
		return err
	}
	for range b.repeat {
		if err := b.restartFollower(ctx, c); err != nil {
			return err
		}
		if err := b.restartAll(ctx, c); err != nil {
			return err
		}
	}
	for range b.repeat {
		if err := b.snapshotPause(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// fill queues the tasks and notes what each node then takes.
func (b *bench) fill(ctx context.Context, c *cluster.Cluster) error {
	leader, _, err := roles(ctx, c)
	if err != nil {
		return err
	}
	var empty []proc.Usage
	for _, n := range c.Nodes {
		u, err := proc.Tree(n.PID())
		if err != nil {
			return err
		}
		empty = append(empty, u)
	}
	const perRequest = 1000
	d, err := rpc(ctx, config(c, leader), b.conns, perRequest)
	if err != nil {
		return err
	}
	defer d.close()
	queued := b.conns * perRequest // the connections' first requests
	begun := time.Now()
	for queued < b.tasks {
		// One after the other: how fast many clients are is measured elsewhere.
		n, err := d.do(ctx, 0)
		if err != nil {
			return fmt.Errorf("fill the queue: %w", err)
		}
		queued += n
	}
	rate := float64(queued-b.conns*perRequest) / time.Since(begun).Seconds()
	b.say("%d tasks queued", queued)
	if rate > 0 {
		if err := b.set.Add("fill", rate); err != nil {
			return err
		}
	}
	for i, n := range c.Nodes {
		u, err := proc.Tree(n.PID())
		if err != nil {
			return err
		}
		if err := b.set.Add("rss", float64(u.RSSBytes-empty[i].RSSBytes)/float64(queued)); err != nil {
			return err
		}
	}
	return nil
}

// patience bounds every wait for nodes that come back.
const patience = 2 * time.Minute

func (b *bench) restartFollower(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, n, err := roles(ctx, c)
	if err != nil {
		return err
	}
	if err := n.Kill(); err != nil {
		return err
	}
	begun := time.Now()
	if err := c.StartNode(n); err != nil {
		return err
	}
	if err := awaitReady(ctx, n); err != nil {
		return err
	}
	took := time.Since(begun)
	b.say("a follower served after %v", took.Round(time.Millisecond))
	return errors.Join(b.set.Add("restart-follower", took.Seconds()), c.WaitVoters(ctx, 3))
}

// awaitReady polls more often than the harness, whose rhythm would show.
func awaitReady(ctx context.Context, n *cluster.Node) error {
	l := newLocal(n)
	for !l.ready(ctx) {
		select {
		case <-n.Ended():
			return fmt.Errorf("node %s ended with status %d:\n%s", n.Addr, n.ExitCode(), n.Log())
		case <-ctx.Done():
			return fmt.Errorf("wait for node %s: %w\n%s", n.Addr, ctx.Err(), n.Log())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (b *bench) restartAll(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, n := range c.Nodes {
		if err := n.Signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		<-n.Ended()
	}
	begun := time.Now()
	for _, n := range c.Nodes {
		if err := c.StartNode(n); err != nil {
			return err
		}
	}
	if err := firstWrite(ctx, c); err != nil {
		return err
	}
	took := time.Since(begun)
	b.say("the cluster took a write after %v", took.Round(time.Millisecond))
	return errors.Join(b.set.Add("restart-all", took.Seconds()), c.WaitVoters(ctx, 3))
}

// firstWrite submits until it succeeds.
func firstWrite(ctx context.Context, c *cluster.Cluster) error {
	cfg := config(c, c.Nodes...)
	cfg.Retry = client.Retries{Attempts: 1000, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}
	f, err := client.NewFast(cfg)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Submit(ctx, []client.TaskSpec{{Command: []string{"/bin/true"}}})
	return err
}
