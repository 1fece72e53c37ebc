package fsm

import "time"

// TaskState is where a task is in its life. Queued and Running can change;
// the other four are terminal and never change again.
type TaskState uint8

// The states of a task. The numbers are part of the log and snapshot formats.
const (
	Queued TaskState = iota + 1
	Running
	Succeeded
	Failed
	Cancelled
	Expired
)

// Terminal reports whether the state can never change again.
func (s TaskState) Terminal() bool { return s >= Succeeded }

// EndReason says why an attempt, or the task without an attempt, ended.
type EndReason uint8

// The reasons. The numbers are part of the log and snapshot formats.
const (
	EndNone         EndReason = iota
	EndExit                   // the command exited by itself: ExitCode holds its status
	EndSignal                 // a signal that was not ours ended it
	EndTimeout                // the run timeout
	EndOutOfMemory            // the memory limit
	EndCancelled              // a client's cancel
	EndLost                   // the worker was lost, or could not renew its lease
	EndQueueTimeout           // waited longer than the queue timeout
	EndStartFailed            // the sandbox could not start the command
	EndShutdown               // the worker was stopped and its grace was over
	EndCPUTime                // the limit of CPU time
	EndOutputLimit            // more output than its limit, where the spec says that this ends it
	EndDiskLimit              // it failed with its scratch folder full

	lastReason = EndDiskLimit
)

// OnLost is what happens to a task when its worker is lost.
type OnLost uint8

// The choices; the zero value is retry.
const (
	OnLostRetry OnLost = iota
	OnLostFail
)

// Placement chooses among workers that fit.
type Placement uint8

// The choices; the zero value is spread.
const (
	Spread Placement = iota
	Pack
)

// Operator compares a node's label with a constraint's values.
type Operator uint8

// The operators. In and NotIn take values; Exists and NotExists take none.
const (
	In Operator = iota + 1
	NotIn
	Exists
	NotExists
)

// Constraint restricts the workers that may run a task by one of their labels.
type Constraint struct {
	Key    string   `cbor:"1,keyasint"`
	Op     Operator `cbor:"2,keyasint"`
	Values []string `cbor:"3,keyasint,omitempty"`
}

// Shape is the part of a spec that the state machine and the scheduler read.
// Everything else of the spec stays encoded. Durations are nanoseconds.
type Shape struct {
	Priority     uint8         `cbor:"1,keyasint,omitempty"` // 0 to 100, higher first
	CPUMillis    uint32        `cbor:"2,keyasint,omitempty"` // thousandths of one CPU
	MemoryBytes  uint64        `cbor:"3,keyasint,omitempty"`
	Constraints  []Constraint  `cbor:"4,keyasint,omitempty"`
	Abilities    []string      `cbor:"5,keyasint,omitempty"` // sandbox abilities that the worker must have
	Placement    Placement     `cbor:"6,keyasint,omitempty"`
	QueueTimeout time.Duration `cbor:"7,keyasint,omitempty"`  // longest wait in the queue over all attempts, 0 = for ever
	RunTimeout   time.Duration `cbor:"8,keyasint,omitempty"`  // longest run of one attempt, 0 = for ever
	RetryLimit   uint32        `cbor:"9,keyasint,omitempty"`  // further attempts after the first, for failures
	RetryBackoff time.Duration `cbor:"10,keyasint,omitempty"` // before the first retry; doubles, at most MaxRetryBackoff
	OnLost       OnLost        `cbor:"11,keyasint,omitempty"`
	Labels       []Label       `cbor:"12,keyasint,omitempty"` // sorted by key; for filters
}

// Label is a key and a value on a task or a node.
type Label struct {
	Key   string `cbor:"1,keyasint"`
	Value string `cbor:"2,keyasint"`
}

// Spec is what one attempt runs and what it is granted. The state machine
// keeps it encoded (Submission.Spec); workers and the API decode it.
type Spec struct {
	Name             string        `cbor:"1,keyasint,omitempty"`
	Command          []string      `cbor:"2,keyasint"`
	Env              []string      `cbor:"3,keyasint,omitempty"` // KEY=value, sorted by key
	WorkDir          string        `cbor:"4,keyasint,omitempty"`
	Stdin            []byte        `cbor:"5,keyasint,omitempty"`
	Mounts           []Mount       `cbor:"6,keyasint,omitempty"`
	PIDs             uint32        `cbor:"7,keyasint,omitempty"`
	OutputLimitBytes int64         `cbor:"8,keyasint,omitempty"` // per attempt, stdout and stderr together
	KillGrace        time.Duration `cbor:"9,keyasint,omitempty"` // between SIGTERM and SIGKILL
	Shape            Shape         `cbor:"10,keyasint"`
	CPUTimeLimit     time.Duration `cbor:"11,keyasint,omitempty"` // of one attempt, all its processes together; 0 = none
	OnOutputLimit    OnOutputLimit `cbor:"12,keyasint,omitempty"`
	Scratch          *Scratch      `cbor:"13,keyasint,omitempty"`
	Secrets          []Secret      `cbor:"14,keyasint,omitempty"` // sorted by name
	Network          Network       `cbor:"15,keyasint,omitempty"`
	IO               *IOLimits     `cbor:"16,keyasint,omitempty"`
}

// IOLimits bound what an attempt moves to and from disks. Zero is no bound.
type IOLimits struct {
	Weight   uint32 `cbor:"1,keyasint,omitempty"` // 1 to 1000
	ReadBPS  int64  `cbor:"2,keyasint,omitempty"` // bytes per second, of each disk
	WriteBPS int64  `cbor:"3,keyasint,omitempty"`
}

// Secret is a file for the command alone. The API never shows its value.
type Secret struct {
	Name  string `cbor:"1,keyasint"`
	Value []byte `cbor:"2,keyasint"`
}

// Network is what an attempt can reach.
type Network uint8

// The classes; the zero value is the loopback of its own.
const (
	NetworkLoopback Network = iota
	NetworkNone
)

// OnOutputLimit is what happens to an attempt that writes more than its limit.
type OnOutputLimit uint8

// The choices; the zero value drops what is more.
const (
	OutputTruncate OnOutputLimit = iota
	OutputEnd
)

// Scratch is a private writable folder that ends with its attempt.
type Scratch struct {
	Target string `cbor:"1,keyasint"`
	Bytes  int64  `cbor:"2,keyasint"`
	Inodes uint32 `cbor:"3,keyasint"`
}

// Mount is a grant of a host path.
type Mount struct {
	Source   string `cbor:"1,keyasint"`
	Target   string `cbor:"2,keyasint"`
	Writable bool   `cbor:"3,keyasint,omitempty"`
}

// AttemptResult is what a worker reports about one attempt.
type AttemptResult struct {
	Reason          EndReason     `cbor:"1,keyasint"`
	ExitCode        int32         `cbor:"2,keyasint,omitempty"`
	Signal          string        `cbor:"3,keyasint,omitempty"` // as in SIGSEGV, when a signal ended it
	Message         string        `cbor:"4,keyasint,omitempty"` // for people; at most 512 bytes
	CPUTime         time.Duration `cbor:"5,keyasint,omitempty"`
	MemoryPeakBytes uint64        `cbor:"6,keyasint,omitempty"`
	WallTime        time.Duration `cbor:"7,keyasint,omitempty"`
	Tail            []byte        `cbor:"8,keyasint,omitempty"` // last output bytes, at most 4 KiB
	StdoutBytes     int64         `cbor:"9,keyasint,omitempty"` // as kept on the worker
	StderrBytes     int64         `cbor:"10,keyasint,omitempty"`
	Truncated       bool          `cbor:"11,keyasint,omitempty"` // more came than the output limit kept
	Weaker          []string      `cbor:"12,keyasint,omitempty"` // walls that the sandbox did without, by its node's configuration
	NotEnforced     []string      `cbor:"13,keyasint,omitempty"` // what the spec limits and the worker cannot; at most 16
}

// Success reports whether the attempt ended as its owner wanted.
func (r *AttemptResult) Success() bool { return r.Reason == EndExit && r.ExitCode == 0 }
