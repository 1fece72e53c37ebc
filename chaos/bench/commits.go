package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"holdfast/chaos/bench/etcd"
	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/load"
	"holdfast/chaos/cluster"
	"holdfast/client"
)

// Bounds of a measurement: a queue holds two million tasks.
const (
	maxSingles = 600_000
	maxMany    = 800_000
	batchTasks = 100
	// streamLines is one request of the stream: long enough that its making
	// does not count.
	streamLines = 2000
)

func commitFigures() []figures.Figure {
	return []figures.Figure{
		{ID: "rpc/etcd", What: "commits, pipelined QUIC RPC, beside etcd", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 4},
		{ID: "rpc", What: "commits, pipelined QUIC RPC", Unit: "/s", Stat: figures.Median},
		{ID: "etcd", What: "etcd: puts at the leader", Unit: "/s", Stat: figures.Median},
		{ID: "rpc-cpu", What: "- CPU of the three nodes per commit, pipelined QUIC RPC", Unit: "µs", Stat: figures.Median},
		{ID: "etcd-cpu", What: "- CPU of etcd's three members per put", Unit: "µs", Stat: figures.Median},
		{ID: "one/etcd", What: "one client, RPC: p50, beside etcd", Unit: "x", Stat: figures.Median, Bound: figures.AtMost, Target: 1},
		{ID: "one", What: "one client, RPC: p50", Unit: "ms", Stat: figures.Median},
		{ID: "one-etcd", What: "etcd: one client: p50", Unit: "ms", Stat: figures.Median},
		{ID: "follower/leader", What: "RPC through a follower, beside the leader", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 0.5},
		{ID: "follower", What: "RPC through a follower", Unit: "/s", Stat: figures.Median},
		{ID: "https/etcd", What: "one HTTPS request per task, beside etcd", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 1},
		{ID: "https", What: "one HTTPS request per task", Unit: "/s", Stat: figures.Median},
		{ID: "https-cpu", What: "- CPU of the three nodes per task, one HTTPS request each", Unit: "µs", Stat: figures.Median},
		{ID: "stream/etcd", What: "NDJSON stream, beside etcd", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 4},
		{ID: "stream", What: "NDJSON stream", Unit: "/s", Stat: figures.Median},
		{ID: "batch/etcd", What: "HTTPS batches of 100, beside etcd", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 4},
		{ID: "batch", What: "HTTPS batches of 100", Unit: "/s", Stat: figures.Median},
	}
}

// runCommits measures fresh clusters in turns: ours, etcd's, ours...
func runCommits(ctx context.Context, b *bench) error {
	b.set.Define(commitFigures()...)
	for round := range b.repeat {
		got := map[string]float64{}
		for _, part := range []func(context.Context, map[string]float64) error{b.rpcCommits, b.webCommits, b.etcdCommits} {
			if err := part(ctx, got); err != nil {
				return err
			}
		}
		b.say("round %d: %s", round+1, compact(got))
		for _, ratio := range [][3]string{
			{"rpc/etcd", "rpc", "etcd"}, {"one/etcd", "one", "one-etcd"}, {"follower/leader", "follower", "rpc"},
			{"https/etcd", "https", "etcd"}, {"stream/etcd", "stream", "etcd"}, {"batch/etcd", "batch", "etcd"},
		} {
			got[ratio[0]] = got[ratio[1]] / got[ratio[2]]
		}
		for id, v := range got {
			if err := b.set.Add(id, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func compact(m map[string]float64) string {
	text, err := json.Marshal(m)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// with runs f on a fresh cluster that runs no tasks.
func (b *bench) with(ctx context.Context, f func(c *cluster.Cluster, leader, follower *cluster.Node) error) error {
	c, err := b.start(ctx, false, nil)
	if err != nil {
		return err
	}
	leader, follower, err := roles(ctx, c)
	if err == nil {
		err = f(c, leader, follower)
	}
	return errors.Join(err, stop(c, folder(c)))
}

func (b *bench) rpcCommits(ctx context.Context, got map[string]float64) error {
	return b.with(ctx, func(c *cluster.Cluster, leader, follower *cluster.Node) error {
		for _, m := range []struct {
			id      string
			node    *cluster.Node
			clients int
			take    func(load.Report) float64
		}{
			{"rpc", leader, b.clients, load.Report.Rate},
			{"follower", follower, b.clients, load.Report.Rate},
			{"one", leader, 1, p50},
		} {
			d, err := rpc(ctx, config(c, m.node), min(b.conns, m.clients), 1)
			if err != nil {
				return err
			}
			r, cpu, err := b.closed(ctx, c, m.clients, maxSingles, d.do)
			d.close()
			if err != nil {
				return fmt.Errorf("%s: %w", m.id, err)
			}
			got[m.id] = m.take(r)
			if m.id == "rpc" {
				got["rpc-cpu"] = cpu
			}
		}
		return nil
	})
}

func p50(r load.Report) float64 { return milliseconds(r.P50) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func (b *bench) webCommits(ctx context.Context, got map[string]float64) error {
	p, err := newPayload()
	if err != nil {
		return err
	}
	lines := streamLines
	if b.quick {
		lines /= 40 // one request must end within the short time
	}
	return b.with(ctx, func(c *cluster.Cluster, leader, _ *cluster.Node) error {
		for _, m := range []struct {
			id      string
			clients int
			maxOps  int
			submit  func(context.Context, *client.Client) (int, error)
		}{
			{"https", b.clients, maxSingles / 2, one(p)},
			// As many tasks under way as the other rows have.
			{"stream", b.conns, maxMany, stream(p, lines)},
			{"batch", b.conns, maxMany, batch(p, batchTasks)},
		} {
			d, err := web(ctx, config(c, leader), b.conns, m.submit)
			if err != nil {
				return err
			}
			r, cpu, err := b.closed(ctx, c, m.clients, m.maxOps, d.do)
			d.close()
			if err != nil {
				return fmt.Errorf("%s: %w", m.id, err)
			}
			got[m.id] = r.Rate()
			if m.id == "https" {
				got["https-cpu"] = cpu
			}
		}
		return nil
	})
}

func (b *bench) etcdCommits(ctx context.Context, got map[string]float64) (err error) {
	e, err := etcd.Start(ctx, b.work, cluster.FreeAddr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	leader, _, err := e.Endpoints(ctx)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		id      string
		clients int
		take    func(load.Report) float64
	}{{"etcd", b.clients, load.Report.Rate}, {"one-etcd", 1, p50}} {
		before, err := e.CPU()
		if err != nil {
			return err
		}
		out, err := program(ctx, b.peer, "-endpoints", leader, "-ca", e.CA(), "-clients", strconv.Itoa(m.clients),
			"-conns", strconv.Itoa(min(b.conns, m.clients)), "-payload", strconv.Itoa(commandBytes),
			"-warmup", b.warmup.String(), "-duration", b.duration.String(), "-max-ops", strconv.Itoa(maxSingles))
		if err != nil {
			return err
		}
		var r load.Report
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("read the peer's report: %w", err)
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("%s: %w", m.id, err)
		}
		got[m.id] = m.take(r)
		after, err := e.CPU()
		if err != nil {
			return err
		}
		if m.id == "etcd" {
			got["etcd-cpu"] = microseconds(after-before) / float64(r.All)
		}
	}
	return nil
}
