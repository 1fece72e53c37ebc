package main

import (
	"context"

	"holdfast/chaos/bench/figures"
)

func isolationBenches() []goBench {
	return []goBench{
		{"warm", "BenchmarkWarm", "p50-us", 400, 20},
		{"warm-paced", "BenchmarkWarmPaced", "p50-us", 60, 5},
		{"cold", "BenchmarkCold", "p50-us", 400, 20},
		{"cold-heap", "BenchmarkColdLargeHeap", "p50-us", 400, 20},
		{"exec", "BenchmarkExec", "p50-us", 1000, 20},
		{"exec-paced", "BenchmarkExecPaced", "p50-us", 60, 5},
		{"bwrap", "BenchmarkBubblewrap", "p50-us", 200, 10},
		{"crun", "BenchmarkCrun", "p50-us", 100, 5},
		{"runc", "BenchmarkRunc", "p50-us", 60, 5},
		{"rate", "BenchmarkThroughput", "runs/s", 3000, 50},
		{"bwrap-rate", "BenchmarkBubblewrapThroughput", "runs/s", 800, 20},
		{"crun-rate", "BenchmarkCrunThroughput", "runs/s", 400, 10},
		{"runc-rate", "BenchmarkRuncThroughput", "runs/s", 200, 5},
		{"fill", "BenchmarkFill", "cpu-us/op", 500, 20},
		{"memory", "BenchmarkWarmMemory", "KiB/sandbox", 1, 1},
		{"kill", "BenchmarkKillMany", "p50-us", 5, 1},
	}
}

func isolationFigures() []figures.Figure {
	us := func(id, what string, bound figures.Bound, target float64) figures.Figure {
		return figures.Figure{ID: id, What: what, Unit: "µs", Stat: figures.Median, Bound: bound, Target: target}
	}
	x := func(id, what string, bound figures.Bound, target float64) figures.Figure {
		return figures.Figure{ID: id, What: what, Unit: "x", Stat: figures.Median, Bound: bound, Target: target}
	}
	rate := func(id, what string, bound figures.Bound, target float64) figures.Figure {
		return figures.Figure{ID: id, What: what, Unit: "/s", Stat: figures.Median, Bound: bound, Target: target}
	}
	return []figures.Figure{
		us("warm", "warm sandbox, start to exit, one after the other: p50", figures.AtMost, 250),
		us("warm-p99", "- p99", figures.AtMost, 3500),
		x("warm-paced/exec-paced", "warm sandbox, one per 100 ms, beside a bare os/exec: p50", figures.AtMost, 1.5),
		us("warm-paced", "- warm sandbox, one per 100 ms: p50", figures.Reported, 0),
		us("exec-paced", "- bare os/exec, one per 100 ms: p50", figures.Reported, 0),
		us("cold", "cold sandbox, start to exit: p50", figures.AtMost, 1300),
		x("cold/bwrap", "cold sandbox, beside bubblewrap: p50", figures.AtMost, 0.5),
		us("exec", "- bare os/exec: p50", figures.Reported, 0),
		us("bwrap", "- bubblewrap (no seccomp, no cgroups): p50", figures.Reported, 0),
		us("crun", "- crun (limits, no seccomp, no user namespace): p50", figures.Reported, 0),
		us("runc", "- runc (the same): p50", figures.Reported, 0),
		rate("rate", "sandboxes side by side, all limits on", figures.AtLeast, 1000),
		x("rate/crun-rate", "sandboxes side by side, beside crun", figures.AtLeast, 4),
		rate("bwrap-rate", "- bubblewrap side by side", figures.Reported, 0),
		rate("crun-rate", "- crun side by side", figures.Reported, 0),
		rate("runc-rate", "- runc side by side", figures.Reported, 0),
		us("rate-cpu", "- CPU of the whole machine per sandbox, side by side", figures.Reported, 0),
		us("fill", "CPU of the whole machine to fill and empty the pool by one", figures.Reported, 0),
		{ID: "memory", What: "memory of a ready sandbox", Unit: "KiB", Stat: figures.Median, Bound: figures.AtMost, Target: 320},
		x("cold-heap/cold", "cold start from a process with a heap of 1 GiB, beside a small one: p50", figures.AtMost, 1.1),
		us("kill", "kill of 1,000 processes until nothing is left: p50", figures.AtMost, 100_000),
	}
}

// runIsolation measures package sandbox by its own benchmarks, in turns with
// the peers.
func runIsolation(ctx context.Context, b *bench) error {
	b.set.Define(isolationFigures()...)
	for round := range b.repeat {
		got := map[string]float64{}
		for _, g := range isolationBenches() {
			m, err := b.goBench(ctx, b.boxTest, g)
			if err != nil {
				return err
			}
			got[g.id] = m[g.unit]
			switch g.id {
			case "warm":
				got["warm-p99"] = m["p99-us"]
			case "rate":
				got["rate-cpu"] = m["cpu-us/op"]
			}
		}
		b.say("round %d: %s", round+1, compact(got))
		for _, ratio := range [][2]string{{"warm-paced", "exec-paced"}, {"cold", "bwrap"}, {"rate", "crun-rate"}, {"cold-heap", "cold"}} {
			got[ratio[0]+"/"+ratio[1]] = got[ratio[0]] / got[ratio[1]]
		}
		delete(got, "cold-heap") // only its ratio says something
		for id, v := range got {
			if err := b.set.Add(id, v); err != nil {
				return err
			}
		}
	}
	return nil
}
