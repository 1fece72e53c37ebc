package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"holdfast/consensus"
)

// Config is one run. Everything but the seed and the span is drawn from the
// seed by Draw.
type Config struct {
	Seed uint64
	Span time.Duration // of the faults; healing and judging come after it

	Nodes      int // at the start: 3 to 5, of which an odd number votes
	Lease      time.Duration
	RPCTimeout time.Duration
	StallLimit time.Duration
	Timing     consensus.Timing
	Proposer   consensus.ProposerLimits
	Snapshot   consensus.SnapshotPolicy
	Autopilot  consensus.AutopilotConfig

	Delay, Spread time.Duration // of a message
	DiskMost      time.Duration // of a write
	Clients       int
	Think         time.Duration // of a client between two operations
	TaskMean      time.Duration // of an attempt's run
	FaultMean     time.Duration // between two faults
	HoldMean      time.Duration // until one is mended
	Reports       [3]float64    // chances that a report comes twice, loses its answer, comes late
	Doubles       float64       // chance that a client sends a write twice
	Herd          bool          // sometimes a hundred clients come at once
	Faults        []string      // in use
}

// pick draws one of a list.
func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// Draw makes a run's configuration.
func Draw(seed uint64, span time.Duration) Config {
	r := rand.New(rand.NewPCG(seed, 1))
	ms := time.Millisecond
	c := Config{Seed: seed, Span: span}
	c.Nodes = pick(r, 3, 4, 5)
	c.Lease = pick(r, 1500*ms, 1500*ms, 3000*ms, 6000*ms)
	beat := pick(r, 150*ms, 400*ms, 1000*ms, 1000*ms)
	c.Timing = consensus.Timing{Heartbeat: beat, Election: beat, Lease: pick(r, beat/2, beat), Commit: pick(r, 5*ms, 20*ms)}
	c.RPCTimeout = pick(r, 500*ms, 2000*ms)
	c.StallLimit = pick(r, 500*ms, 1000*ms, 3000*ms)
	c.Proposer = consensus.ProposerLimits{QueueCommands: pick(r, 0, 48)}
	c.Snapshot = consensus.SnapshotPolicy{Bytes: int64(pick(r, 8<<10, 64<<10, 64<<20)), Pause: pick(r, 500*ms, 10_000*ms),
		Entries: uint64(pick(r, 64, 1024, 128<<10)), TrailingLogs: uint64(pick(r, 4, 64, 1024, 10240))}
	c.Autopilot = consensus.AutopilotConfig{Interval: 500 * ms, Stable: pick(r, 500*ms, 3000*ms), Dead: pick(r, 5000*ms, 30_000*ms)}
	c.Delay, c.Spread = pick(r, 50*time.Microsecond, 500*time.Microsecond, 5*ms), pick(r, 100*time.Microsecond, 2*ms, 20*ms)
	if c.Delay+c.Spread > beat/10 {
		c.Delay, c.Spread = 500*time.Microsecond, 2*ms
	}
	c.DiskMost = pick(r, 0, 300*time.Microsecond, 3*ms, 20*ms)
	c.Clients = 3 + r.IntN(4)
	c.Think = pick(r, 20*ms, 100*ms, 300*ms)
	c.TaskMean = pick(r, 100*ms, 1000*ms, 4000*ms)
	c.FaultMean, c.HoldMean = pick(r, 300*ms, 1000*ms, 2000*ms), pick(r, c.Lease/2, c.Lease, 2*c.Lease)
	c.Reports = [3]float64{pick(r, 0, 0.05), pick(r, 0, 0.05), pick(r, 0, 0.02)}
	c.Doubles = pick(r, 0, 0.1, 1)
	c.Herd = c.Proposer.QueueCommands > 0
	// A run with everything at once is a run like any other: each has a few
	// faults of its own, and so a character.
	names := faultNames()
	for _, i := range r.Perm(len(names))[:6+r.IntN(8)] {
		c.Faults = append(c.Faults, names[i])
	}
	for _, sharp := range sharpest {
		if r.IntN(2) == 0 && !slices.Contains(c.Faults, sharp) {
			c.Faults = append(c.Faults, sharp)
		}
	}
	return c
}

// sharpest are the faults that safeguards are made for, and that chance alone
// would bring too seldom.
var sharpest = []string{"leader isolated and suspected", "leader and few, then its power", "power of the leader", "clock", "herd"}

// String is the configuration in one line.
func (c Config) String() string {
	return fmt.Sprintf("seed %d: %d nodes, lease %v, heartbeat %v/%v, rpc %v, stall %v, queue %d, snapshots %d B/%d entries/%d trailing, delay %v+%v, disk %v, %d clients every %v, tasks %v, doubles %v, reports %v, faults every %v for %v: %v",
		c.Seed, c.Nodes, c.Lease, c.Timing.Heartbeat, c.Timing.Lease, c.RPCTimeout, c.StallLimit, c.Proposer.QueueCommands,
		c.Snapshot.Bytes, c.Snapshot.Entries, c.Snapshot.TrailingLogs, c.Delay, c.Spread, c.DiskMost, c.Clients, c.Think, c.TaskMean, c.Doubles, c.Reports, c.FaultMean, c.HoldMean, c.Faults)
}
