package consensus

import (
	"errors"
	"fmt"
)

// ErrOverloaded refuses a proposal whose bytes or count do not fit into the
// queue. Nothing was appended. The API answers 429: try again later.
var ErrOverloaded = errors.New("consensus: the proposal queue is full; retry after a moment")

// ErrUnknownOutcome means that the command may have been, or may yet be,
// committed. Retry it with the same request ID: the state machine lets it take
// effect once.
var ErrUnknownOutcome = errors.New("consensus: outcome unknown; retry with the same request ID")

// ErrStopped refuses work because the group is shutting down, has abandoned
// its office, or has failed. Nothing was appended.
var ErrStopped = errors.New("consensus: the group has stopped")

// ErrTooLarge refuses a proposal that can never fit into one raft entry.
var ErrTooLarge = errors.New("consensus: the proposal is larger than one log entry may be")

// ErrNoQuorum means that a majority of the voters did not confirm this leader
// in time, so that it may have been replaced without knowing. Retry.
var ErrNoQuorum = errors.New("consensus: a majority of voters did not confirm the leader in time")

// ErrNoPreVote refuses a transport without raft.WithPreVote: the library would
// turn pre-vote off with no more than a warning, and a node that comes back
// from a partition would then depose a healthy leader.
var ErrNoPreVote = errors.New("consensus: the transport does not implement raft.WithPreVote")

// ErrTransferStuck is given to OnFatal when raft refuses every proposal because
// of a leadership transfer that has long ended. Only a restart clears it.
var ErrTransferStuck = errors.New("consensus: raft holds a leadership transfer in progress for ever; restart the node")

// ErrTailDropped is given to OnFatal after a conflicting log tail was removed
// to end a loop of snapshot installs. The node works again after a restart.
var ErrTailDropped = errors.New("consensus: a conflicting log tail was dropped; restart the node")

// ErrTailUnproven is given to OnFatal when a snapshot is installed again and
// again and the log after it may hold committed entries. A restart may not
// help: remove the node from the cluster and let it join anew.
var ErrTailUnproven = errors.New("consensus: one snapshot is installed for ever and the log's tail may not be dropped; let this node join anew")

// ErrUnsafe refuses a membership change that would leave the cluster without a
// majority of healthy voters.
var ErrUnsafe = errors.New("consensus: refused, it would leave no majority of healthy voters")

// ErrNotMember names a server that is not in the configuration.
var ErrNotMember = errors.New("consensus: no such server in the configuration")

// NotLeaderError is a definite refusal: nothing was appended here. ID and Addr
// name the leader if this node knows one.
type NotLeaderError struct {
	ID, Addr string
}

// Error implements error.
func (e *NotLeaderError) Error() string {
	if e.ID == "" {
		return "consensus: this node is not the leader and knows of none; retry"
	}
	return fmt.Sprintf("consensus: this node is not the leader; ask %s at %s", e.ID, e.Addr)
}

// ApplyError is given to OnFatal when the state machine refused an entry or a
// snapshot. The node must stop: going on would skip what the others applied.
type ApplyError struct {
	Index uint64 // 0 for a snapshot
	Err   error
}

// Error implements error.
func (e *ApplyError) Error() string {
	if e.Index == 0 {
		return fmt.Sprintf("consensus: restore the state from a snapshot: %v", e.Err)
	}
	return fmt.Sprintf("consensus: apply entry %d: %v", e.Index, e.Err)
}

// Unwrap returns the state machine's error.
func (e *ApplyError) Unwrap() error { return e.Err }
