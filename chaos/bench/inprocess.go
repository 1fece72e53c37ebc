package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"holdfast/chaos/bench/figures"
)

// goBench is one benchmark of a Go package.
type goBench struct {
	id, name, unit string
	count, quick   int // operations
}

func inProcessBenches() []goBench {
	return []goBench{
		{"inproc", "BenchmarkCommits256", "commits/s", 300_000, 5_000},
		{"stock", "BenchmarkStock256", "commits/s", 60_000, 2_000},
		{"slow", "BenchmarkCommits256SlowDisk", "commits/s", 100_000, 2_000},
		{"life", "BenchmarkLife", "tasks/s", 100_000, 2_000},
	}
}

func runInProcess(ctx context.Context, b *bench) error {
	b.set.Define(
		figures.Figure{ID: "inproc/stock", What: "commits in process, beside the stock library", Unit: "x", Stat: figures.Median, Bound: figures.AtLeast, Target: 3},
		figures.Figure{ID: "inproc", What: "commits in process", Unit: "/s", Stat: figures.Median},
		figures.Figure{ID: "stock", What: "stock library: TCP without TLS, raft-boltdb, one command per entry", Unit: "/s", Stat: figures.Median},
		figures.Figure{ID: "inproc-cpu", What: "- CPU of a commit in process, three nodes and the client", Unit: "µs", Stat: figures.Median},
		figures.Figure{ID: "stock-cpu", What: "- the same of the stock library", Unit: "µs", Stat: figures.Median},
		figures.Figure{ID: "slow", What: "commits in process, 1 ms added to every fsync", Unit: "/s", Stat: figures.Median, Bound: figures.AtLeast, Target: 15_000},
		figures.Figure{ID: "life", What: "whole life of a task, runner that does nothing", Unit: "/s", Stat: figures.Median, Bound: figures.AtLeast, Target: 10_000},
	)
	for round := range b.repeat {
		got := map[string]float64{}
		for _, g := range inProcessBenches() {
			m, err := b.goBench(ctx, b.nodeTest, g)
			if err != nil {
				return err
			}
			got[g.id] = m[g.unit]
			if cpu, ok := m["cpu-us/commit"]; ok && g.id != "slow" {
				got[g.id+"-cpu"] = cpu
			}
		}
		b.say("round %d: %s", round+1, compact(got))
		got["inproc/stock"] = got["inproc"] / got["stock"]
		for id, v := range got {
			if err := b.set.Add(id, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// goBenchTries: an election in the middle ends a benchmark, as one leader's
// rate is what is measured. It happens where neighbours hog the machine.
const goBenchTries = 3

// goBench runs one benchmark in a process of its own and returns its metrics
// by unit.
func (b *bench) goBench(ctx context.Context, binary string, g goBench) (map[string]float64, error) {
	count := g.count
	if b.quick {
		count = g.quick
	}
	for try := 1; ; try++ {
		// The data goes to the disk that is to be measured.
		out, err := program(ctx, "env", "TMPDIR="+b.work, binary, "-test.run", "^$", "-test.bench", "^"+g.name+"$",
			"-test.benchtime", strconv.Itoa(count)+"x", "-test.timeout", "5m")
		if err == nil {
			return metricsOf(out, g.name)
		}
		if err = fmt.Errorf("%s: %w", g.name, err); try == goBenchTries || ctx.Err() != nil {
			return nil, err
		}
		b.say("%s failed and is tried again: %.400s", g.name, err)
		b.set.Note(g.id, "a run that failed was repeated")
	}
}

// metricsOf finds the metrics in what a Go benchmark printed.
func metricsOf(out []byte, name string) (map[string]float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || strings.TrimRight(f[0], "0123456789") != name+"-" && f[0] != name {
			continue
		}
		metrics := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			metrics[f[i+1]] = v
		}
		return metrics, nil
	}
	return nil, fmt.Errorf("%s printed no metrics:\n%s", name, out)
}
