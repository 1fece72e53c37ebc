package history

// Kind says what an event is.
type Kind string

// The kinds of events.
const (
	// A client's operation.
	Invoke  Kind = "invoke"
	OK      Kind = "ok"
	Refused Kind = "refused" // it had no effect and never will
	Unknown Kind = "unknown" // it may have had one, or may have it later

	// A fault, in this order. Bit is left out if nothing shows that it bit,
	// Healed if nothing shows that the heal worked.
	Inject Kind = "inject"
	Bit    Kind = "bit"
	Heal   Kind = "heal"
	Healed Kind = "healed"

	Sample  Kind = "sample"  // what a node said of itself, or its host of it
	Took    Kind = "effect"  // a task's effect outside the cluster
	Journal Kind = "journal" // what a node wrote down about an attempt
	Scanned Kind = "scan"    // a search for secrets where none must be
	Enter   Kind = "phase"   // a part of the run begins
	Note    Kind = "note"    // for people
)

// Op is what a client did.
type Op string

// The operations.
const (
	Submit Op = "submit"
	Get    Op = "get"
	List   Op = "list"
	Cancel Op = "cancel"
	Wait   Op = "wait"
	Probe  Op = "probe" // a submission of the open-loop prober
)

// GivenUp is the Code of an operation that its client meant to give up on
// before its answer could be expected.
const GivenUp = "given_up"

// Phase is a part of a run.
type Phase string

// The phases, in their order.
const (
	Steady  Phase = "steady"  // load without faults
	Faulted Phase = "faulted" // the schedule runs
	Healthy Phase = "healthy" // all is healed: nothing may fail any more
	Settled Phase = "settled" // no load; every task has ended or will not
)

// Event is one line of a history. Which fields are set depends on its kind.
type Event struct {
	At   int64 `json:"at"` // nanoseconds since the run's start
	Kind Kind  `json:"kind"`

	// ID pairs an operation's or a fault's events; no other has it.
	ID int64 `json:"id,omitempty"`
	Op Op    `json:"op,omitempty"`
	// Process is the client whose operation it is. A client does one thing
	// after the other, but does not wait for what became Unknown.
	Process int    `json:"process,omitempty"`
	Node    string `json:"node,omitempty"` // asked, struck, or speaking
	Task    string `json:"task,omitempty"`
	Attempt int    `json:"attempt,omitempty"`
	// Key is the Idempotency-Key of a write. A submission's is its task's name
	// too, so that a read shows which request made a task.
	Key   string `json:"key,omitempty"`
	Index uint64 `json:"index,omitempty"` // the log index that an answer reflects

	// Of a read: whether it may be stale, how old it may be at most, and how
	// old the answer said that it may be, -1 if it did not. Nanoseconds.
	Stale  bool  `json:"stale,omitempty"`
	MaxAge int64 `json:"max_age,omitempty"`
	Age    int64 `json:"age,omitempty"`

	Rules *Rules `json:"rules,omitempty"` // Invoke of a submission
	Tasks []View `json:"tasks,omitempty"` // OK: what the answer showed
	Cover *Cover `json:"cover,omitempty"` // OK of a list without a filter
	Code  string `json:"code,omitempty"`  // Refused, Unknown: the problem's code
	Error string `json:"error,omitempty"` // Refused, Unknown: in words

	Fault  *Fault  `json:"fault,omitempty"`
	State  *State  `json:"state,omitempty"`  // Sample: what the node says
	Counts *Counts `json:"counts,omitempty"` // Sample: what its host sees of it
	Effect *Effect `json:"effect,omitempty"`
	Scan   *Scan   `json:"scan,omitempty"`
	Phase  Phase   `json:"phase,omitempty"`
	Text   string  `json:"text,omitempty"` // Note and Journal; evidence of Bit and Healed
}

// Rules are the parts of a task's spec that checkers need. Durations are
// nanoseconds, zero is none.
type Rules struct {
	RetryLimit   int    `json:"retry_limit,omitempty"`
	Backoff      int64  `json:"backoff,omitempty"` // before the first retry
	QueueTimeout int64  `json:"queue_timeout,omitempty"`
	RunTimeout   int64  `json:"run_timeout,omitempty"`
	OnLost       string `json:"on_lost,omitempty"`
	// Fails is how many attempts fail by themselves before one succeeds.
	Fails int `json:"fails,omitempty"`
	// Effects tells that every attempt writes to the ledger.
	Effects bool `json:"effects,omitempty"`
}

// View is a task as one answer showed it. Times are the cluster's, in Unix
// nanoseconds; zero is not said.
type View struct {
	Task      string `json:"task"`
	Key       string `json:"key,omitempty"` // the task's name
	State     string `json:"state"`
	Attempt   int    `json:"attempt,omitempty"`
	Node      string `json:"node,omitempty"`
	Index     uint64 `json:"index,omitempty"` // of the task's last change
	Reason    string `json:"reason,omitempty"`
	Token     string `json:"token,omitempty"` // of the attempt whose result it is
	Submitted int64  `json:"submitted,omitempty"`
	Started   int64  `json:"started,omitempty"`
	Finished  int64  `json:"finished,omitempty"`
	RetryAt   int64  `json:"retry_at,omitempty"`
}

// Cover tells that a list shows every task with a number in [From, To] that
// there is; To of 0 has no end. A task's number is that of its ID, as in t7.
type Cover struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to,omitempty"`
}

// Terminal reports whether the task can never change again.
func (v *View) Terminal() bool {
	switch v.State {
	case "succeeded", "failed", "cancelled", "expired":
		return true
	}
	return false
}

// Fault says what is broken.
type Fault struct {
	Type    string   `json:"type"`              // as in "kill" or "isolate"
	Targets []string `json:"targets,omitempty"` // nodes, by name
	Role    string   `json:"role,omitempty"`    // what they were chosen by, as in "leader"
	// NoQuorum tells that no majority is left to write: the time without
	// writes then counts from the heal.
	NoQuorum bool              `json:"no_quorum,omitempty"`
	Params   map[string]string `json:"params,omitempty"`
}

// State is what a node says of itself and of the cluster.
type State struct {
	Down     bool   `json:"down,omitempty"` // it did not answer; the rest is empty
	Leader   string `json:"leader,omitempty"`
	Term     uint64 `json:"term,omitempty"`
	Role     string `json:"role,omitempty"` // leader, voter, replica
	Commit   uint64 `json:"commit,omitempty"`
	Queued   int    `json:"queued"`
	Running  int    `json:"running"`
	Finished int    `json:"finished"`
	// Hash is that of the state at the event's Index.
	Hash string `json:"hash,omitempty"`
}

// Counts are what a node holds of its host, -1 where that could not be seen.
// Process tells restarts apart: it is the same as long as the process is.
type Counts struct {
	Process     string `json:"process,omitempty"`
	Goroutines  int    `json:"goroutines"`
	Descriptors int    `json:"descriptors"` // but sockets
	Sockets     int    `json:"sockets"`
	Processes   int    `json:"processes"` // below the node's own
	Mounts      int    `json:"mounts"`
	Cgroups     int    `json:"cgroups"`
	Memory      int64  `json:"memory"` // resident bytes
}

// Scan is a search for the run's canary secrets in clear.
type Scan struct {
	Where    string   `json:"where"`
	Bytes    int64    `json:"bytes"`
	Canaries int      `json:"canaries"`        // how many were searched for
	Found    []string `json:"found,omitempty"` // which ones, by name and place
	// Control tells that a canary that lay there on purpose was found.
	Control bool `json:"control"`
}
