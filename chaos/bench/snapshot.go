package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/chaos/bench/load"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

// The writes that a snapshot must not hold up: an open loop, so that a pause
// counts against every write that falls into it.
const (
	pacedEvery   = 500 * time.Microsecond // 2,000 writes a second
	pacedAtOnce  = 4096
	ballastBytes = 16 << 10 // of one task that brings the next snapshot nearer
)

// snapshotPause writes until the leader has taken a snapshot, and measures the
// writes that overlap it.
func (b *bench) snapshotPause(ctx context.Context, c *cluster.Cluster) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	leader, _, err := roles(ctx, c)
	if err != nil {
		return err
	}
	d, err := rpc(ctx, config(c, leader), b.conns, 1)
	if err != nil {
		return err
	}
	defer d.close()
	writing, end := context.WithCancel(ctx)
	defer end()
	var outcomes []load.Outcome
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	dropped := 0
	work.Go(func() {
		dropped = load.Open(writing, pacedEvery, pacedAtOnce,
			func(ctx context.Context, i int) error { _, err := d.do(ctx, i); return err },
			func(o load.Outcome) { outcomes = append(outcomes, o) })
	})
	var ballast error
	work.Go(func() { ballast = press(writing, config(c, leader)) })
	from, to, err := watchSnapshot(ctx, leader)
	end()
	work.Wait()
	if err := errors.Join(err, ballast); err != nil {
		return err
	}
	var h load.Histogram
	failed := 0
	for _, o := range outcomes {
		switch {
		case o.Ended.Before(from) || o.Begun.After(to):
		case o.Err != nil:
			failed++
		default:
			h.Add(o.Ended.Sub(o.Begun))
		}
	}
	// At the end the writes under way are cut short; that is not the cluster's.
	if dropped > 0 || h.Count() == 0 {
		return fmt.Errorf("%d writes counted, %d failed, %d not begun: the cluster does not keep up with 2,000 writes a second", h.Count(), failed, dropped)
	}
	b.say("a snapshot of %v: %d writes, p50 %v, p999 %v, slowest %v, %d cut short", to.Sub(from).Round(time.Millisecond), h.Count(), h.Quantile(0.5), h.Quantile(0.999), h.Max(), failed)
	return errors.Join(b.set.Add("snapshot", milliseconds(h.Quantile(0.999))), b.set.Add("snapshot-took", milliseconds(to.Sub(from))))
}

// press submits large tasks, slowly: a snapshot is due every 64 MiB.
func press(ctx context.Context, cfg client.Config) error {
	f, err := client.NewFast(cfg)
	if err != nil {
		return err
	}
	defer f.Close()
	spec := client.TaskSpec{Command: []string{"/bin/true"}, StdinBase64: make([]byte, ballastBytes)}
	tick := time.NewTicker(2 * time.Millisecond) // 8 MiB a second
	defer tick.Stop()
	for ctx.Err() == nil {
		if _, err := f.Submit(ctx, []client.TaskSpec{spec}); err != nil && ctx.Err() == nil {
			return fmt.Errorf("bring the next snapshot nearer: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// shortestSnapshot tells a snapshot from the removal of an old one.
const shortestSnapshot = 5 * time.Millisecond

// watchSnapshot returns when a node began and ended its next snapshot: it is
// written to a folder whose name says that it is not complete.
func watchSnapshot(ctx context.Context, n *cluster.Node) (from, to time.Time, err error) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return from, to, fmt.Errorf("wait for a snapshot of %s: %w", n.Addr, ctx.Err())
		case now := <-tick.C:
			names, err := filepath.Glob(filepath.Join(n.Dir, "snapshots", "*"))
			if err != nil {
				return from, to, err
			}
			partial := false
			for _, name := range names {
				partial = partial || strings.HasSuffix(name, ".tmp")
			}
			switch {
			case partial && from.IsZero():
				from = now
			case !partial && !from.IsZero() && now.Sub(from) < shortestSnapshot:
				from = time.Time{} // an old one is removed under the same name
			case !partial && !from.IsZero():
				return from, now, nil
			}
		}
	}
}
