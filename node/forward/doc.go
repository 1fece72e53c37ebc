// Package forward takes commands on any node and brings them to the leader,
// whoever that is by then, until each has an outcome.
//
// A command waits in one queue. While this node leads, the queue is proposed
// locally; otherwise it travels in frames over one stream to the leader, a few
// frames in flight. When the stream breaks, the leader changes, or a leader
// refuses, what had no outcome goes back to the queue: commands carry request
// IDs, so a second copy takes effect once (fsm). A command whose deadline
// passes is answered with ErrUnknownOutcome if it may have been proposed, and
// with ErrNoLeader if it certainly was not.
//
// Invariants: every accepted call is answered exactly once; at most
// maxQueueBytes and maxCalls wait; after Close nothing waits.
//
// Goroutines: loop owns the session; sweep ends overdue calls; Serve (the
// leader's end) has one reader, its caller, and one writer. All share mu; no
// callback runs with mu held.
package forward
