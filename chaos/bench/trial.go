package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"holdfast/chaos/bench/load"
	"holdfast/chaos/bench/netns"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

const (
	// probeEvery is the resolution of a gap: a write begins so often at the
	// nodes that stay.
	probeEvery = time.Millisecond
	// probesAtOnce holds all probes of the longest gap.
	probesAtOnce = 16384
	// loadClients write beside the probes, as fast as loadPause lets them.
	loadClients = 16
	loadPause   = 5 * time.Millisecond
	// settle is load before the fault.
	settle = 300 * time.Millisecond
	// longestGap ends a trial without a write.
	longestGap = 15 * time.Second
	// rhythm is the least time between two faults: elections by evidence are
	// limited to ten a minute for each node, and an outage is rarer.
	rhythm = 4 * time.Second
)

// trial is one fault and what followed.
type trial struct {
	b       *bench
	c       *cluster.Cluster
	network *netns.Network
	fault   fault
	said    io.Writer // the nodes' logs
}

// outcome is the time without writes and who ended it.
type outcome struct {
	gap              time.Duration
	evidence, timers float64 // elections by cause
}

func (o outcome) by() string {
	switch {
	case o.evidence > 0 && o.timers > 0:
		return "evidence and timers"
	case o.evidence > 0:
		return "evidence"
	}
	return "timers"
}

func (t *trial) run(ctx context.Context) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	next := time.After(rhythm)
	leader, err := t.c.Leader(ctx)
	if err != nil {
		return outcome{}, err
	}
	var others []*cluster.Node
	for _, n := range t.c.Nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	before, err := counters(ctx, others, electionsMetric)
	if err != nil {
		return outcome{}, err
	}
	gap, err := t.gap(ctx, leader, others)
	if err != nil {
		return outcome{}, err
	}
	after, err := counters(ctx, others, electionsMetric)
	if err != nil {
		return outcome{}, err
	}
	if err := t.fault.mend(t.c, t.network, leader, slices.Index(t.c.Nodes, leader)); err != nil {
		return outcome{}, err
	}
	if err := t.c.WaitVoters(ctx, len(t.c.Nodes)); err != nil {
		return outcome{}, err
	}
	select {
	case <-next:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	begun := after.since(before)
	return outcome{gap, begun[byEvidence], begun[byTimer]}, nil
}

// gap loads the nodes that stay, breaks the leader and returns the time to the
// first acknowledgement of a write that began after that.
func (t *trial) gap(ctx context.Context, leader *cluster.Node, others []*cluster.Node) (time.Duration, error) {
	var probes []*client.Fast
	for _, n := range others {
		cfg := config(t.c, n)
		cfg.Retry.Attempts = 1 // a write that fails is not the first that succeeds
		cfg.Timeout = longestGap
		f, err := client.NewFast(cfg)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		probes = append(probes, f)
	}
	p, err := newPayload()
	if err != nil {
		return 0, err
	}
	write := func(ctx context.Context, i int) error {
		spec, err := p.encode(1)
		if err != nil {
			return err
		}
		_, err = probes[i%len(probes)].SubmitEncoded(ctx, spec)
		return err
	}
	for i := range probes { // connected before the fault
		if err := write(ctx, i); err != nil {
			return 0, fmt.Errorf("write before the fault: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settle+longestGap)
	defer cancel()
	var mu sync.Mutex
	var broken time.Time
	first := make(chan time.Time, 1)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		load.Open(ctx, probeEvery, probesAtOnce, write, func(o load.Outcome) {
			mu.Lock()
			at := broken
			mu.Unlock()
			if o.Err == nil && !at.IsZero() && !o.Begun.Before(at) {
				select {
				case first <- o.Ended:
				default: // not the first
				}
			}
		})
	})
	for i := range loadClients {
		work.Go(func() { keepWriting(ctx, i, write) })
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	// The time runs from before the fault; a write counts that begins after it,
	// when no answer can come from the old leader any more.
	at := time.Now()
	fmt.Fprintf(t.said, "--- fault at %s\n", at.UTC().Format("15:04:05.000"))
	if err := t.fault.cause(t.network, leader, slices.Index(t.c.Nodes, leader)); err != nil {
		return 0, err
	}
	mu.Lock()
	broken = time.Now()
	mu.Unlock()
	select {
	case end := <-first:
		return end.Sub(at), nil
	case <-ctx.Done():
		return 0, errors.New("no write succeeded within " + longestGap.String())
	}
}

// keepWriting writes one after the other; what fails while there is no leader is
// the probes' to see.
func keepWriting(ctx context.Context, i int, write func(context.Context, int) error) {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		_ = write(ctx, i)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
