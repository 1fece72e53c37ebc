package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/netns"
	"holdfast/chaos/bench/proc"
	"holdfast/chaos/cluster"
)

// A fault is how a leader is lost.
type fault struct {
	id, what string
	cause    func(*netns.Network, *cluster.Node, int) error
	mend     func(*cluster.Cluster, *netns.Network, *cluster.Node, int) error
}

func faults() []fault {
	return []fault{
		{"kill", "leader killed with -9",
			func(_ *netns.Network, n *cluster.Node, _ int) error { return n.Signal(os.Kill) },
			func(c *cluster.Cluster, _ *netns.Network, n *cluster.Node, _ int) error {
				<-n.Ended()
				return c.StartNode(n)
			}},
		{"cut", "leader cut off the network",
			func(net *netns.Network, _ *cluster.Node, i int) error { return net.Cut(i) },
			func(_ *cluster.Cluster, net *netns.Network, _ *cluster.Node, i int) error { return net.Heal(i) }},
		{"stop", "leader's process stopped",
			func(_ *netns.Network, n *cluster.Node, _ int) error { return n.Pause() },
			func(_ *cluster.Cluster, _ *netns.Network, n *cluster.Node, _ int) error { return n.Resume() }},
	}
}

func failoverFigures() []figures.Figure {
	const first = ": to the first write elsewhere"
	return []figures.Figure{
		{ID: "kill-p50", What: "leader killed with -9, under load" + first + ", p50", Unit: "ms", Stat: figures.Median, Bound: figures.AtMost, Target: 15},
		{ID: "kill", What: "leader killed with -9, under load" + first + ", p99", Unit: "ms", Stat: figures.P99, Bound: figures.AtMost, Target: 50},
		{ID: "kill-timers", What: "- kills after which only the timers elected", Stat: figures.Sum},
		{ID: "cut", What: "leader cut off" + first + ", p99", Unit: "ms", Stat: figures.P99, Bound: figures.AtMost, Target: 1500},
		{ID: "stop", What: "leader stopped (SIGSTOP)" + first + ", p99", Unit: "ms", Stat: figures.P99, Bound: figures.AtMost, Target: 1500},
	}
}

// childEnv tells the process inside the hub which network it is in: the name
// of its owner's process, from which all names follow.
const childEnv = "HOLDFAST_BENCH_FAULT"

// runFailover makes the network and measures each fault in a process inside
// its hub: sockets belong to the namespace of the process that makes them.
func runFailover(ctx context.Context, b *bench) (err error) {
	b.set.Define(failoverFigures()...)
	network, err := netns.New(3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, f := range faults() {
		args := []string{"-netns", network.Name(), "-binary", b.binary, "-dir", b.work, "-out", b.out, "-kills", strconv.Itoa(b.kills), "-cuts", strconv.Itoa(b.cuts)}
		cmd := exec.Command(self, args...)
		cmd.Env = append(os.Environ(), childEnv+"="+f.id)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, b.log
		if err := netns.Enter(network.Hub(), cmd); err != nil {
			return err
		}
		p, err := proc.Start(cmd)
		if err != nil {
			return err
		}
		select {
		case <-p.Ended():
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.Stop(10*time.Second))
		}
		if err := p.Wait(); err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
		var list []figures.Figure
		if err := json.Unmarshal([]byte(out.String()), &list); err != nil {
			return fmt.Errorf("%s: read the figures: %w", f.what, err)
		}
		if err := b.set.Merge(list); err != nil {
			return err
		}
	}
	return nil
}

// measureInside is the process inside the hub: one fault, many times.
func (b *bench) measureInside(ctx context.Context, out io.Writer) error {
	network, err := netns.Attach(b.child, 3)
	if err != nil {
		return err
	}
	for _, f := range faults() {
		if f.id != os.Getenv(childEnv) {
			continue
		}
		count := b.cuts
		if f.id == "kill" {
			count = b.kills
		}
		if err := b.faultOften(ctx, network, f, count); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(b.set.Figures())
}

// perCluster bounds the trials on one cluster: its queue only grows.
const perCluster = 50

func (b *bench) faultOften(ctx context.Context, network *netns.Network, f fault, count int) error {
	b.set.Define(failoverFigures()...)
	said, err := b.keepLogs(f.id)
	if err != nil {
		return err
	}
	defer said.Close()
	for done := 0; done < count; {
		n := min(count-done, perCluster)
		if err := b.faultCluster(ctx, network, f, n, done, said); err != nil {
			return err
		}
		done += n
	}
	return nil
}

func (b *bench) faultCluster(ctx context.Context, network *netns.Network, f fault, count, before int, said *os.File) (err error) {
	c, err := b.start(ctx, false, func(o *cluster.Options) {
		logTo(said)(o)
		o.Listen = func(i int) (string, error) { return net.JoinHostPort(network.Addr(i), "7700"), nil }
		o.Wrap = func(i int, cmd *exec.Cmd) { cmd.Err = netns.Enter(network.Host(i), cmd) }
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(c, folder(c))) }()
	for i := range count {
		t := &trial{b: b, c: c, network: network, fault: f, said: said}
		got, err := t.run(ctx)
		fmt.Fprintf(said, "--- %s, trial %d: %v by %s, %v\n", f.what, before+i+1, got.gap, got.by(), err)
		if err != nil {
			return fmt.Errorf("%s, trial %d: %w", f.what, before+i+1, err)
		}
		b.say("%s %d: %.1f ms, by %s", f.what, before+i+1, milliseconds(got.gap), got.by())
		ids := []string{f.id}
		if f.id == "kill" {
			ids = append(ids, "kill-p50")
		}
		for _, id := range ids {
			if err := b.set.Add(id, milliseconds(got.gap)); err != nil {
				return err
			}
		}
		if f.id == "kill" {
			timers := 0.0
			if got.evidence == 0 {
				timers = 1
			}
			if err := b.set.Add("kill-timers", timers); err != nil {
				return err
			}
		}
	}
	return nil
}
