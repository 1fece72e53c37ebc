package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

// What a Backend's errors may wrap. Everything else is internal.
var (
	// ErrNoLeader: nothing was proposed, because there is no leader to reach.
	ErrNoLeader = errors.New("no leader")
	// ErrUnknownOutcome: a command may or may not take effect.
	ErrUnknownOutcome = errors.New("unknown outcome")
	// ErrOverloaded: refused for load before anything was proposed.
	ErrOverloaded = errors.New("overloaded")
	// ErrStopping: this node is going down; others serve.
	ErrStopping = errors.New("stopping")
	// ErrTooStale: this node's state is older than the caller allows.
	ErrTooStale = errors.New("state is too old")
	// ErrNotFound: no such output (any more).
	ErrNotFound = errors.New("not found")
	// ErrInvalid: a snapshot that cannot be restored; its text is shown.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the cluster's state does not allow it; its text is shown.
	ErrConflict = errors.New("conflict")
)

// Backend is the node behind the API. All methods are safe for concurrent use
// and end early with their context.
type Backend interface {
	// State is this node's copy. What a read needs first is ReadBarrier's.
	State() State
	// Propose brings an encoded command to the leader, again if need be, and
	// returns its result and log index. It may return before this node has
	// applied the index.
	Propose(ctx context.Context, cmd []byte) (fsm.Result, uint64, error)
	// ProposeAsync does the same without holding a goroutine. It calls done
	// exactly once, at the deadline at the latest (plus scheduling).
	ProposeAsync(deadline time.Time, cmd []byte, done func(fsm.Result, uint64, error))
	// ReadBarrier returns once State may be read as the options ask.
	ReadBarrier(ctx context.Context, opts ReadOptions) (ReadInfo, error)
	// WatchTask gives a channel that is closed once this node's state has the
	// task terminal (or has forgotten it), or spuriously. stop frees it.
	WatchTask(id fsm.TaskID) (changed <-chan struct{}, stop func())
	// Output opens one attempt's output, wherever it lies. The reader ends
	// with io.EOF at the end of what there is or, to follow, of the attempt.
	Output(ctx context.Context, req OutputRequest) (io.ReadCloser, OutputInfo, error)
	// Cluster is the status as this node sees it; hash asks for StateHash.
	Cluster(ctx context.Context, hash bool) (*client.ClusterStatus, error)
	// Peers tells of the nodes what the state does not know.
	Peers() map[fsm.NodeID]Peer
	// TransferLeadership makes the leader hand over its office.
	TransferLeadership(ctx context.Context) error
	// RemoveNode takes a node out of the state and out of the raft group. It is
	// safe to repeat, and refuses (ErrConflict) what would leave no majority.
	RemoveNode(ctx context.Context, id fsm.NodeID) error
	// SaveSnapshot writes a portable snapshot.
	SaveSnapshot(ctx context.Context, w io.Writer) error
	// RestoreSnapshot replaces the state by a portable snapshot, read to its
	// end and checked before anything is replaced.
	RestoreSnapshot(ctx context.Context, r io.Reader) error
	// NotReady says why the node should get no requests, nothing if it should:
	// no leader known, nothing applied for too long, draining.
	NotReady() []string
}

// State is what the API reads of an *fsm.State.
type State interface {
	Index() uint64
	Task(id fsm.TaskID) (*fsm.TaskView, bool)
	List(f fsm.Filter) []*fsm.TaskView
	Nodes() []fsm.NodeView
	Node(id fsm.NodeID) (fsm.NodeView, bool)
	Tokens() []fsm.TokenView
	TokenByID(id string) (fsm.TokenView, bool)
}

// ReadOptions say how fresh a read must be.
type ReadOptions struct {
	Stale    bool          // else linearizable
	MaxAge   time.Duration // Stale: ErrTooStale beyond it; 0 = any age
	MinIndex uint64        // wait until this index is applied here
}

// ReadInfo is how fresh a read is.
type ReadInfo struct {
	Index uint64        // applied here
	Age   time.Duration // Stale: since this node last knew itself current; negative: it never did
}

// OutputRequest names a part of one attempt's output.
type OutputRequest struct {
	Task    fsm.TaskID
	Attempt uint32 // the latest if 0
	Stderr  bool
	Offset  int64
	Follow  bool
}

// OutputInfo is what is known when the reader opens.
type OutputInfo struct {
	Attempt   uint32
	Total     int64 // bytes kept so far, from offset 0
	Ended     bool  // nothing will be added
	Truncated bool  // more came than was kept
}

// Peer is what raft and gossip say of a node.
type Peer struct {
	Role   string // leader, voter, replica, worker
	Gossip string // alive, suspect, dead, left, unknown
}

// Authenticator goes from a request to its principal. An error with a method
// RetryAfter() time.Duration means too many failures.
type Authenticator interface {
	Authenticate(r *http.Request) (principal string, role fsm.Role, err error)
}

// Policy decides by operation ID and role. Role 0 has no credential; ownOnly
// restricts to what the principal owns.
type Policy interface {
	Decide(action string, role fsm.Role) (allowed, ownOnly bool)
}

// Audit records what happened.
type Audit interface {
	// Begin claims room for one record of a mutation that is about to happen.
	// An error means that it could not be recorded, and must not happen.
	Begin(ctx context.Context) error
	// End uses the claim of Begin; it is called exactly once for each.
	End(principal, source, action, target, outcome string)
	// Note records a refusal if there is room, and counts it if there is not.
	Note(principal, source, action, target, outcome string)
}

// Minter makes tokens: what the state stores, and the text that is shown once.
type Minter interface {
	Mint(join bool) (id string, hash [32]byte, text string, err error)
}
