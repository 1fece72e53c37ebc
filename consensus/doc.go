// Package consensus is one raft group: proposals with group commit,
// linearizable reads, leadership, failover by evidence, and membership, on
// hashicorp/raft. Transport, stores, state machine and clock are parameters;
// nothing here opens a file or a socket, so a whole group runs in simulation.
//
// # Invariants
//
//   - A proposal that was refused with anything but ErrUnknownOutcome was never
//     appended. A proposal that succeeded is applied here.
//   - The time stamped on one leader's batches never runs back. The state takes
//     the latest stamp it has seen, so that its time never falls, whoever leads.
//   - A read index is given only by a leader that has applied everything from
//     before its term, and that a majority of voters followed after the read
//     arrived.
//   - Leadership duties (OnLeadership) run only between those two edges: after
//     the first entry of a term is applied here, and until its context ends.
//     Proposals need not wait for that edge, only for the election.
//   - Nothing that comes of an entry leaves a leader before the entry is durable
//     on it, although it is replicated earlier: see overlap, with the proof.
//   - An entry that the state machine refuses stops this node. It is never
//     skipped.
//   - Every wait on the library ends: with the group's end at the latest.
//
// # Goroutines
//
//   - the library's FSM goroutine, the apply goroutine: everything in applier,
//     and the OnApplied and OnRestored callbacks;
//   - leadership.run: who leads; OnLeaderChange callbacks;
//   - leadership.take and the duties: one set per term, ended by its context;
//   - proposer.run: the one entry in flight, and the callbacks of proposals;
//   - reader.run: one round of confirmation at a time;
//   - failoverDriver.run: owns the failover;
//   - link.pump: hands incoming requests to raft;
//   - overlap.write: a leader's append under way to its disk, at most one;
//   - snapshotByBytes.
//
// # Locks
//
// Each type has at most one mutex for itself and calls nothing that locks while
// it holds it, except: leadership.mu is taken before proposer.mu.
//
// # Why not raft-autopilot
//
// Version 0.3.0 compiles with raft 1.8, but it waives the stabilization time
// just after a change of leader, always promotes every server, has no maximum
// and no odd numbers, wants the servers' state fetched by RPC although the
// leader's own heartbeats carry it, and links its test mocks (and testify) into
// the binary. What is left to use is smaller than planVoters.
package consensus
