// Package rafttransport is a raft.Transport over package transport.
//
// Requests travel as frames (see codec.go) on streams of class Raft:
//
//   - replication: one long-lived stream per follower, pipelined;
//   - everything else (heartbeats, votes, pre-votes, TimeoutNow, and
//     AppendEntries outside of the pipeline): pooled streams with one request
//     each in flight, marked urgent, so that none of them waits behind log
//     data;
//   - snapshots: a stream each, of class Bulk, on another connection.
//
// Invariants:
//
//   - A request is handed to raft only if the server ID in its header is the
//     node ID of the connection's certificate. A node cannot vote, lead or
//     take office in another's name.
//   - A frame never exceeds maxFrame; memory grows with the bytes that
//     arrive, not with the length that was announced.
//   - No call blocks longer than its timeout, whatever the peer does. In
//     particular a pipeline ends itself when raft has stopped reading from it
//     (pipeline.go), and a snapshot that makes no progress fails on both
//     sides: raft reads it in its main loop.
//
// Goroutines: one per accepted stream and one writer of its answers; one
// reader per pipeline. All end with Close or with their connection. mu guards
// the pool of streams and is held for map operations only.
package rafttransport
