package worker

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// ErrRemoved ends Run when the cluster has removed this node for ever.
var ErrRemoved = errors.New("this node was removed from the cluster")

// ErrVersion ends Run when the leader does not speak this release's protocol.
var ErrVersion = errors.New("the leader does not speak this version of the worker protocol")

const (
	// marginParts: the last sixth of a lease (0.5 s of 3 s) is for killing the
	// sandboxes and for clocks that run at slightly different rates.
	marginParts = 6
	// renewParts: six renewals per lease, so that the lease that is left when a
	// leader dies right after an acknowledgement (2 s of 3 s) is enough for an
	// election by the timers. A third of the lease, as often chosen, is not.
	renewParts = 6
	// sessionParts: a session in which a renewal stays unanswered for this part
	// of the lease is given up for a new one.
	sessionParts = 3
	// fenceParts: how often per lease the deadline is looked at, for clocks
	// that go on while timers stand still.
	fenceParts = 12

	// helloTimeout bounds the wait for the first answer, before the lease's
	// length is known.
	helloTimeout   = time.Second
	connectTimeout = 2 * time.Second // then the leader is asked for anew
	firstReconnect = 10 * time.Millisecond
	lastReconnect  = 500 * time.Millisecond
	reportRetry    = 50 * time.Millisecond

	// maxMessageBytes is what the state takes as AttemptResult.Message.
	maxMessageBytes = 512
	// remembered is how many tasks' last attempts are known after they are
	// gone, so that an assignment that comes twice starts once.
	remembered = protocol.MaxAttempts
)

// Capacity is what attempts may use together.
type Capacity struct {
	CPUMillis   int64
	MemoryBytes int64
}

// Config is what a Worker needs. Fields without a default are required.
type Config struct {
	Node        fsm.NodeID
	Incarnation uint64
	Capacity    Capacity
	// Connect opens a stream to the current leader. It blocks or fails while
	// there is none. The stream's Close must end reads and writes in progress.
	Connect func(ctx context.Context) (io.ReadWriteCloser, error)
	// Register commits this node's registration. The worker calls it when the
	// leader does not know this incarnation as alive, after everything that
	// ran here is dead.
	Register   func(ctx context.Context) error
	Executor   Executor
	Outputs    Outputs
	Now        func() time.Time // never set back, goes on while the machine sleeps; nil = time.Now
	Jitter     func() float64   // 0 to 1; nil = math/rand
	Logger     hclog.Logger
	Registerer prometheus.Registerer // nil = no metrics
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// Executor starts sandboxes.
type Executor interface {
	// Start starts an attempt's command and returns. When ctx ends first it
	// returns an error and leaves nothing running. The error becomes the
	// attempt's message: it says what to do.
	Start(ctx context.Context, run Run, stdout, stderr io.Writer) (Sandbox, error)
	// Extend tells that the worker's lease lasts for another d from now, so
	// that an executor with a dead-man's handle can kill by itself when this
	// process hangs. It must not block.
	Extend(d time.Duration)
}

// Run is what one attempt runs.
type Run struct {
	Key  protocol.Key
	Spec *fsm.Spec
}

// Sandbox is one started attempt.
type Sandbox interface {
	// Wait returns when every process of the sandbox is gone and its output
	// has been written. It is called once.
	Wait() Exit
	// Stop asks the command to end (SIGTERM) and kills after grace. Kill kills
	// at once. Neither blocks; both may be called again, and after the end.
	Stop(grace time.Duration)
	Kill()
}

// Exit is how a sandbox ended by itself.
type Exit struct {
	Reason          fsm.EndReason // EndExit, EndSignal, EndOutOfMemory, EndCPUTime, EndDiskLimit or EndStartFailed
	Code            int32
	Signal          string // as in SIGSEGV
	Message         string
	CPUTime         time.Duration
	MemoryPeakBytes uint64
	Weaker          []string // walls that this host's sandboxes do without
	NotEnforced     []string // limits of the spec that this host's kernel cannot enforce
}

// Outputs keeps what attempts write.
type Outputs interface {
	// Create makes the place for one attempt's output, limited to limit bytes
	// over both streams; 0 = the default.
	Create(task fsm.TaskID, attempt uint32, limit int64) (Output, error)
}

// Output takes one attempt's output. Its writers never fail and never block
// for long: what cannot be kept is dropped and counted as truncated, because a
// full disk must not change what a task does.
type Output interface {
	Stdout() io.Writer
	Stderr() io.Writer
	// OnExceeded has a function called once, from a writer, when more comes than
	// the limit keeps. Call it before the first write.
	OnExceeded(func())
	// Finish ends both streams; further writes are dropped.
	Finish() OutputSummary
}

// OutputSummary says what was kept.
type OutputSummary struct {
	StdoutBytes, StderrBytes int64
	Tail                     []byte // the last bytes over both in order of arrival, at most 4 KiB
	Truncated                bool
}
