package fsm

import "time"

// Bounds of what a command may hold. They are part of what every replica must
// agree on: raising one needs a new feature level.
const (
	MaxSpecBytes      = 64 << 10 // one task's encoded Spec: larger input is not for the log
	MaxTailBytes      = 4 << 10  // AttemptResult.Tail
	MaxMessageBytes   = 512      // AttemptResult.Message
	MaxTasksPerSubmit = 10_000   // also of Cancel, Assign and Report: one command must not hold up a batch for long
	MaxBatchBytes     = 16 << 20 // far above the proposer's 512 KiB; stops a hostile length
	MaxCommandBytes   = 8 << 20

	maxPriority         = 100
	maxConstraints      = 32
	maxConstraintValues = 64
	maxAbilities        = 64
	maxLabels           = 64
	maxKeyBytes         = 128
	maxValueBytes       = 256
	maxSignalBytes      = 32
	maxWeaker           = 8  // names of walls; few can be done without
	maxWeakerBytes      = 32 // of one name: a result must stay within maxResultBytes
	maxNameBytes        = 256
	maxRetryLimit       = 1_000
	maxCPUMillis        = 1_000_000_000 // a million CPUs: sums over a node stay far from overflow
	maxMemoryBytes      = 1 << 50
	maxCertBytes        = 16 << 10
	maxNotEnforced      = 16
	maxNotEnforcedBytes = 48
	maxResultBytes      = MaxTailBytes + MaxMessageBytes + maxNotEnforced*(maxNotEnforcedBytes+2) + 1<<10
	maxShapeBytes       = 64 << 10 // above what the bounds of its lists can reach in practice
)

// MaxDuration bounds every duration in a spec, so that adding one to a time
// cannot overflow: ten years.
const MaxDuration = 10 * 365 * 24 * time.Hour

// maxUnixNano bounds a batch's time for the same reason: the year 2116.
const maxUnixNano = int64(1) << 62

// MaxRetryBackoff caps the doubling backoff: a task that may be retried is
// looked at least once an hour.
const MaxRetryBackoff = time.Hour

// MaxLostAttempts ends a task whose workers keep disappearing: lost attempts
// do not count toward RetryLimit, but a task that takes its workers down with
// it must not do so for ever.
const MaxLostAttempts = 100

// RunTimeoutGrace is how long after the run timeout the worker's report may
// still come before the state fails the attempt itself. Workers enforce the
// timeout; this is the backstop for one that renews its lease but hangs.
const RunTimeoutGrace = 30 * time.Second

// RemoveGrace is how long the tasks of a node that was removed while it was
// alive wait before they may run elsewhere. A lease must be shorter, so that
// the removed worker, which can no longer renew, has killed its sandboxes by
// then.
const RemoveGrace = 15 * time.Second

// TickBatch bounds how many timers one Tick moves, to keep a batch short when
// a million come due at once. NextDeadline stays in the past until all moved.
const TickBatch = 4096

// Limits are the hard bounds of a state. Zero values take the defaults. They
// decide outcomes, so they must be the same on every node of a cluster; only
// tests have a reason to set them.
type Limits struct {
	QueueBound     uint64 // queued and running tasks; Settings can be lower
	FinishedKept   uint64 // terminal tasks kept; Settings can be lower
	RequestIDsKept uint64 // remembered results; Settings can be lower
	Nodes          int    // admitted and not removed
	Removed        int    // the revocation set
	Tokens         int
	RunningPerNode int // attempts of one worker, superseded ones included
}

// The defaults. A queue of 2 million tasks takes about 1 GiB.
const (
	DefaultQueueBound     = 2_000_000
	DefaultFinishedKept   = 100_000
	DefaultRequestIDsKept = 262_144
	defaultNodes          = 10_000
	defaultRemoved        = 100_000
	defaultTokens         = 10_000
	defaultRunningPerNode = 10_000
)

func (l Limits) withDefaults() Limits {
	orU := func(v, def uint64) uint64 {
		if v == 0 {
			return def
		}
		return v
	}
	orI := func(v, def int) int {
		if v <= 0 {
			return def
		}
		return v
	}
	return Limits{
		QueueBound:     orU(l.QueueBound, DefaultQueueBound),
		FinishedKept:   orU(l.FinishedKept, DefaultFinishedKept),
		RequestIDsKept: orU(l.RequestIDsKept, DefaultRequestIDsKept),
		Nodes:          orI(l.Nodes, defaultNodes),
		Removed:        orI(l.Removed, defaultRemoved),
		Tokens:         orI(l.Tokens, defaultTokens),
		RunningPerNode: orI(l.RunningPerNode, defaultRunningPerNode),
	}
}

// within returns the bounds in force: the settings where they are set and
// lower.
func (l Limits) within(s Settings) Limits {
	lower := func(limit *uint64, v uint64) {
		if v != 0 && v < *limit {
			*limit = v
		}
	}
	lower(&l.QueueBound, s.QueueBound)
	lower(&l.FinishedKept, s.FinishedKept)
	lower(&l.RequestIDsKept, s.RequestIDsKept)
	return l
}
