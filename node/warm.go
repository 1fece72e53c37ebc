package node

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/sandbox"
)

const (
	// warmPerCore is about what one core starts within the pool's window of
	// demand: more would wait for the core, ready or not.
	warmPerCore = 16
	// warmMemoryPart bounds the pool by a part of the memory that tasks may use,
	// warmBytes being what a sandbox that waits takes at most.
	warmMemoryPart = 64
	warmBytes      = 1 << 20
	// maxWarm is what a configuration may ask for: some 0.5 GiB.
	maxWarm = 1024
	// defaultMaxWarm is far above what a burst needs on a large machine.
	defaultMaxWarm = 128
)

// warmMax is how many sandboxes this node keeps ready at most.
func (n *Node) warmMax() int {
	if w := n.cfg.Sandbox.WarmMax; w != 0 {
		return max(0, w)
	}
	c := n.capacity()
	if c.CPUMillis == 0 || c.MemoryBytes == 0 {
		return 0 // takes no tasks
	}
	return defaultWarm(runtime.NumCPU(), c.MemoryBytes)
}

func defaultWarm(cores int, memory int64) int {
	return min(warmPerCore*cores, int(memory/warmMemoryPart/warmBytes), defaultMaxWarm)
}

func sandboxMetrics(rt *sandbox.Runtime) []prometheus.Collector {
	gauge := func(name, help string, get func(sandbox.Stats) uint64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(get(rt.Stats())) })
	}
	count := func(kind string, get func(sandbox.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_sandbox_starts_total",
			Help: "Sandboxes started, by kind.", ConstLabels: prometheus.Labels{"kind": kind}},
			func() float64 { return float64(get(rt.Stats())) })
	}
	return []prometheus.Collector{
		gauge("holdfast_sandbox_warm", "Sandboxes that are ready for a task.", func(s sandbox.Stats) uint64 { return s.Ready }),
		count("warm", func(s sandbox.Stats) uint64 { return s.Warm }),
		count("cold", func(s sandbox.Stats) uint64 { return s.Cold }),
	}
}
