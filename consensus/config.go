package consensus

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
)

// Config is everything a Group is built from. The zero value of each optional
// field takes the default that stands beside it.
type Config struct {
	ID        string         // this node's ID, also its raft server ID
	Transport raft.Transport // must implement raft.WithPreVote; may implement Cutter
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	State     StateMachine

	// EncodeBatch makes one raft entry; with no commands it makes one that
	// changes nothing but the time.
	EncodeBatch func(unixNano int64, cmds [][]byte) []byte
	// CheckSnapshot reads a snapshot as State.Restore would, into the void.
	// Group.Restore refuses without it: the library panics, on the leader and
	// then on every follower, when a stored snapshot cannot be restored.
	CheckSnapshot func(io.Reader) error

	// Compress and Decompress stand around the state in snapshots, both or
	// none. Snapshots without compression can always be read.
	Compress   func(raft.FSMSnapshot) raft.FSMSnapshot
	Decompress func(io.ReadCloser) (io.ReadCloser, error)

	// Bootstrap makes this node the first voter of a new cluster if the stores
	// are empty. With existing state it does nothing.
	Bootstrap bool

	Timing    Timing
	Proposer  ProposerLimits
	Snapshot  SnapshotPolicy
	Autopilot AutopilotConfig
	Failover  FailoverConfig

	// Health replaces what the leader measures itself (see Members).
	Health func() map[string]Health

	Now func() time.Time // time.Now
	// Elapsed is a clock that nobody sets, and whose times compare with each
	// other alone; nil is Now, whose monotonic part is one.
	Elapsed func() time.Time
	Metrics prometheus.Registerer // none
	Logger  hclog.Logger          // none

	// Callbacks that must not miss anything are given here; those registered
	// later on the Group begin when they are registered. OnFatal is called
	// once, on its own goroutine; nil is allowed only in tests.
	OnFatal        func(error)
	OnApplied      func(index uint64, changes []fsm.Change)
	OnRestored     func(index uint64)
	OnLeaderChange func(LeaderInfo)

	mutants mutants // tests only
}

// Timing holds raft's timers. Failover by timers takes 2.0 to 2.6 times the
// heartbeat and must stay under 1.5 s; below that, longer is safer, since a
// process that dies is noticed by evidence and not by these. A lease of 150 ms
// beside heartbeats of 250 ms was the first to fail falsely: two thousand TLS
// handshakes at once kept a leader from its heartbeats for 170 ms.
type Timing struct {
	Heartbeat time.Duration // 400 ms without contact make a follower a candidate
	Election  time.Duration // 400 ms without a majority start the election again
	Lease     time.Duration // 400 ms without a majority end a leader's office
	Commit    time.Duration // 5 ms (up to twice that) until an idle leader tells its commit index
}

// ProposerLimits bound what waits for the log.
type ProposerLimits struct {
	EntryBytes    int // 512 KiB: raft's suggested bound, beyond it heartbeats starve
	QueueBytes    int // 8 entries
	QueueCommands int // 65,536: bounds the memory of tiny commands' bookkeeping
}

// SnapshotPolicy says when a snapshot is taken.
type SnapshotPolicy struct {
	// Bytes applied since the last snapshot that ask for one: 64 MiB, on some
	// nodes up to half as many again, so that not all write one at the same
	// time. The library counts entries, which says nothing under group commit.
	Bytes int64
	// Entries is the library's own threshold, the net below: 131,072.
	Entries uint64
	// Pause is the least time between two snapshots asked for by bytes: 10 s.
	Pause time.Duration
	// TrailingLogs stay in the log after a snapshot: 10,240. Fewer make a
	// slow follower fall back to whole snapshots, where the library has a
	// loop (see installs.go).
	TrailingLogs uint64
}

// Defaults, see Timing, ProposerLimits and SnapshotPolicy.
const (
	defaultHeartbeat     = 400 * time.Millisecond
	defaultElection      = 400 * time.Millisecond
	defaultLease         = 400 * time.Millisecond
	defaultCommit        = 5 * time.Millisecond
	defaultEntryBytes    = 512 << 10
	defaultQueueEntries  = 8
	defaultQueueCommands = 64 << 10
	defaultSnapshotBytes = 64 << 20
	defaultSnapshotCount = 128 << 10
	defaultSnapshotPause = 10 * time.Second
	defaultTrailingLogs  = 10240

	// maxAppendEntries bounds one AppendEntries by count. With entries of up
	// to 512 KiB the product is what matters: 64 of them are 32 MiB.
	maxAppendEntries = 64

	// snapshotInterval is how often the library looks at its own threshold.
	snapshotInterval = 2 * time.Minute
)

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Config) setDefaults() {
	orDefault(&c.Timing.Heartbeat, defaultHeartbeat)
	orDefault(&c.Timing.Election, max(defaultElection, c.Timing.Heartbeat))
	orDefault(&c.Timing.Lease, min(defaultLease, c.Timing.Heartbeat))
	orDefault(&c.Timing.Commit, defaultCommit)
	orDefault(&c.Proposer.EntryBytes, defaultEntryBytes)
	orDefault(&c.Proposer.QueueBytes, defaultQueueEntries*c.Proposer.EntryBytes)
	orDefault(&c.Proposer.QueueCommands, defaultQueueCommands)
	orDefault(&c.Snapshot.Bytes, defaultSnapshotBytes)
	orDefault(&c.Snapshot.Entries, defaultSnapshotCount)
	orDefault(&c.Snapshot.Pause, defaultSnapshotPause)
	orDefault(&c.Snapshot.TrailingLogs, defaultTrailingLogs)
	c.Autopilot.setDefaults()
	c.Failover.setDefaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
}

func (c *Config) validate() error {
	switch {
	case c.ID == "":
		return errors.New("consensus: Config.ID is empty")
	case c.Transport == nil || c.Logs == nil || c.Stable == nil || c.Snapshots == nil:
		return errors.New("consensus: Config needs Transport, Logs, Stable and Snapshots")
	case c.State == nil || c.EncodeBatch == nil:
		return errors.New("consensus: Config needs State and EncodeBatch")
	case (c.Compress == nil) != (c.Decompress == nil):
		return errors.New("consensus: Config needs both or none of Compress and Decompress")
	case c.Proposer.QueueBytes < c.Proposer.EntryBytes:
		return fmt.Errorf("consensus: the queue (%d bytes) must hold an entry (%d bytes)", c.Proposer.QueueBytes, c.Proposer.EntryBytes)
	}
	if _, ok := c.Transport.(raft.WithPreVote); !ok {
		return fmt.Errorf("%w (%T)", ErrNoPreVote, c.Transport)
	}
	return nil
}

func (c *Config) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.HeartbeatTimeout = c.Timing.Heartbeat
	rc.ElectionTimeout = c.Timing.Election
	rc.LeaderLeaseTimeout = c.Timing.Lease
	rc.CommitTimeout = c.Timing.Commit
	rc.MaxAppendEntries = maxAppendEntries
	// The proposer keeps one entry in flight, so a buffered channel would only
	// break the promise that a refused entry was never appended.
	rc.BatchApplyCh = false
	// A removed node keeps its replica until the node above decides; the
	// library would shut itself down under our feet.
	rc.ShutdownOnRemove = false
	rc.SnapshotThreshold = c.Snapshot.Entries
	rc.SnapshotInterval = snapshotInterval
	rc.TrailingLogs = c.Snapshot.TrailingLogs
	rc.NoLegacyTelemetry = true
	rc.PreVoteDisabled = false
	rc.Logger = c.Logger.Named("raft")
	return rc
}
