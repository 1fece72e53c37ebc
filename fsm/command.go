package fsm

import "github.com/fxamacker/cbor/v2"

// CommandType names what a command does. The numbers are part of the log
// format: never reuse one.
type CommandType uint8

// The commands. The type of each Body stands beside it.
const (
	CmdSubmit          CommandType = iota + 1 // Submit
	CmdCancel                                 // Cancel
	CmdAssign                                 // Assign
	CmdReport                                 // Report
	CmdTick                                   // none: moves every timer that is due at the batch's time
	CmdRegisterNode                           // RegisterNode
	CmdExpireWorker                           // ExpireWorker
	CmdDrainNode                              // DrainNode
	CmdRemoveNode                             // RemoveNode
	CmdCreateToken                            // CreateToken
	CmdRevokeToken                            // RevokeToken
	CmdAdmitNode                              // AdmitNode
	CmdInitCluster                            // InitCluster
	CmdSetFeatureLevel                        // SetFeatureLevel
)

// Command is one change of the state. The leader stamps no command; the time
// is the batch's.
type Command struct {
	Version   uint8           `cbor:"1,keyasint"`
	Type      CommandType     `cbor:"2,keyasint"`
	RequestID RequestID       `cbor:"3,keyasint,omitzero"`
	Principal string          `cbor:"4,keyasint,omitempty"`
	Body      cbor.RawMessage `cbor:"5,keyasint,omitempty"`
}

// Submission is one task of a Submit.
type Submission struct {
	Shape Shape           `cbor:"1,keyasint"`
	Spec  cbor.RawMessage `cbor:"2,keyasint"` // an encoded Spec, at most MaxSpecBytes
}

// Submit puts tasks into the queue: all of them or, on a refusal, none.
// Result: First and Count give their IDs, in order and without gaps.
type Submit struct {
	Tasks []Submission `cbor:"1,keyasint"`
}

// Cancel ends tasks that are not terminal. A running attempt is superseded at
// once; its worker kills it, and has its capacity back once it has reported
// the attempt. Result: Count of tasks that changed; NotFound if
// the only task named is unknown, Conflict if it is already terminal.
type Cancel struct {
	Tasks []TaskID `cbor:"1,keyasint"`
}

// Assignment gives one queued task to a worker. Attempt is the number of the
// new attempt: the task's last one plus one, else it is refused.
type Assignment struct {
	Task    TaskID `cbor:"1,keyasint"`
	Attempt uint32 `cbor:"2,keyasint"`
	Node    NodeID `cbor:"3,keyasint"`
}

// Assign starts attempts. Each assignment is checked against the state by
// itself: those that no longer fit are passed over. Result: Count that took
// effect.
type Assign struct {
	Assignments []Assignment `cbor:"1,keyasint"`
}

// AttemptReport is one attempt's end.
type AttemptReport struct {
	Task    TaskID        `cbor:"1,keyasint"`
	Attempt uint32        `cbor:"2,keyasint"`
	Result  AttemptResult `cbor:"3,keyasint"`
}

// Report ends attempts of one worker's incarnation. Only the current attempt
// of a task counts. Result: Count that took effect; the others were
// superseded and the worker may forget them too, but must report them: until
// then they keep their capacity.
type Report struct {
	Node        NodeID          `cbor:"1,keyasint"`
	Incarnation uint64          `cbor:"2,keyasint"`
	Reports     []AttemptReport `cbor:"3,keyasint"`
}

// Node is a node as it describes itself, and what the cluster knows of it.
type Node struct {
	ID           NodeID   `cbor:"1,keyasint"`
	Name         string   `cbor:"2,keyasint,omitempty"`
	Addr         string   `cbor:"3,keyasint"` // host:port, UDP for nodes and TCP for clients
	Version      string   `cbor:"4,keyasint,omitempty"`
	CPUMillis    uint32   `cbor:"5,keyasint,omitempty"` // 0 = takes no tasks
	MemoryBytes  uint64   `cbor:"6,keyasint,omitempty"`
	Labels       []Label  `cbor:"7,keyasint,omitempty"` // sorted by key
	Abilities    []string `cbor:"8,keyasint,omitempty"` // sorted
	Incarnation  uint64   `cbor:"9,keyasint"`           // one per start of the process
	FeatureLevel uint32   `cbor:"10,keyasint,omitempty"`
	Weaker       []string `cbor:"11,keyasint,omitempty"` // walls that its sandboxes do without, sorted
}

// RegisterNode says that a node's process is there. Another incarnation than
// the one known means that the node restarted: its attempts are lost. The node
// must have been admitted, and not removed.
type RegisterNode struct {
	Node Node `cbor:"1,keyasint"`
}

// ExpireWorker declares the attempts of one incarnation lost, and the node
// lost until it registers again.
type ExpireWorker struct {
	Node        NodeID `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
}

// DrainNode stops (or again allows) new attempts on a node.
type DrainNode struct {
	Node  NodeID `cbor:"1,keyasint"`
	Drain bool   `cbor:"2,keyasint"`
}

// RemoveNode ends a node's membership for ever: its attempts are lost and its
// ID joins the revocation set. If it was not lost before, its tasks wait for
// RemoveGrace before they may run elsewhere.
type RemoveNode struct {
	Node NodeID `cbor:"1,keyasint"`
}

// Role is what a token's holder may be or do.
type Role uint8

// The roles. RoleNode is for join tokens, the others for the API.
const (
	RoleViewer Role = iota + 1
	RoleSubmitter
	RoleOperator
	RoleAdmin
	RoleNode
)

// CreateToken stores a token's hash. The secret itself never enters the log.
type CreateToken struct {
	ID      string   `cbor:"1,keyasint"`
	Name    string   `cbor:"2,keyasint,omitempty"`
	Role    Role     `cbor:"3,keyasint"`
	Hash    [32]byte `cbor:"4,keyasint"`           // SHA-256 of the secret
	Expires int64    `cbor:"5,keyasint,omitempty"` // Unix ns, 0 = never
	Uses    uint32   `cbor:"6,keyasint,omitempty"` // RoleNode: how many nodes may join, 0 = no bound
}

// RevokeToken makes a token useless at once.
type RevokeToken struct {
	ID string `cbor:"1,keyasint"`
}

// AdmitNode spends one use of a join token for one node. The same node may
// ask again with the same token without spending another use.
type AdmitNode struct {
	TokenID string   `cbor:"1,keyasint"`
	Hash    [32]byte `cbor:"2,keyasint"`
	Node    NodeID   `cbor:"3,keyasint"`
}

// InitCluster is the first command of a cluster's log; refused ever after.
type InitCluster struct {
	ClusterID string   `cbor:"1,keyasint"`
	CACert    []byte   `cbor:"2,keyasint"` // DER
	CAKey     []byte   `cbor:"3,keyasint"` // PKCS #8 DER; on disk only inside the encrypted log and snapshots
	First     NodeID   `cbor:"4,keyasint"` // admitted without a token
	Settings  Settings `cbor:"5,keyasint"`
}

// Settings are the cluster-wide bounds. Zero values take the defaults.
type Settings struct {
	QueueBound     uint64 `cbor:"1,keyasint,omitempty"` // queued and running tasks, then CodeQueueFull
	FinishedKept   uint64 `cbor:"2,keyasint,omitempty"` // terminal tasks kept for readers, oldest forgotten first
	RequestIDsKept uint64 `cbor:"3,keyasint,omitempty"` // results kept for retried commands
}

// SetFeatureLevel allows commands and formats up to a level. It never falls.
type SetFeatureLevel struct {
	Level uint32 `cbor:"1,keyasint"`
}

// Code is the outcome of one command.
type Code uint8

// The outcomes. Everything but OK leaves the state as it was.
const (
	OK               Code = iota
	CodeInvalid           // the command is malformed or out of bounds
	CodeNotFound          // it names something unknown
	CodeConflict          // the state no longer allows it
	CodeQueueFull         // admission: try again later
	CodeForbidden         // the node was removed, or was never admitted
	CodeTokenBad          // no such token, or the wrong secret
	CodeTokenExpired      //
	CodeTokenUsed         // every use is spent
)

// Result answers one command. The same request ID gets the same result.
type Result struct {
	Code   Code   `cbor:"1,keyasint,omitempty"`
	First  TaskID `cbor:"2,keyasint,omitempty"`
	Count  uint32 `cbor:"3,keyasint,omitempty"`
	Detail string `cbor:"4,keyasint,omitempty"` // for people
}

// ChangeKind says what a Change is about.
type ChangeKind uint8

// The kinds of change that the node reacts to.
const (
	ChangeQueued   ChangeKind = iota + 1 // a task entered, or came back to, the queue
	ChangeAssigned                       // an attempt began on Node
	ChangeRevoked                        // an attempt on Node is superseded: the worker kills it
	ChangeTerminal                       // the task reached its terminal state
	ChangeNode                           // a node registered, drained, was lost or removed
	ChangeToken                          // tokens or the revocation set changed
	ChangeCluster                        // settings, feature level, identity
)

// Change tells the node what one command changed, in order. It is derived
// from the log, so every replica sees the same sequence.
type Change struct {
	Kind    ChangeKind
	Task    TaskID
	Attempt uint32
	Node    NodeID
}
