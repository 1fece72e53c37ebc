// Package client is the Go SDK of holdfast: the types of the HTTP API, a
// client that talks to any node of a cluster, retries safely by request ID and
// fails over between addresses.
//
// [Client] speaks the HTTP API. [Fast] submits over a pipelined QUIC RPC, whose
// wire is package frames. Package sealed is the file format for snapshots, and
// clienttest a cluster's API in memory for tests.
//
// Invariants:
//
//   - The token leaves this process only for a server that proved, by the
//     pinned CA, to be a node of the cluster.
//   - Every mutation carries one Idempotency-Key for all its attempts, so a
//     repetition after a lost answer takes effect once.
//   - Only what may end better is repeated: 429, 503 and broken connections;
//     never a definite refusal. Attempts, pauses and the context bound it.
//   - Nothing is unbounded: answers, lines, windows, requests in flight.
//
// Goroutines: Client has none of its own beyond net/http's, but for one per
// attempt of SubmitStream, which writes lines and ends before the attempt
// does. Fast has one dial and then a writer and a reader per connection, which
// end with Close. No lock is held while another is taken.
//
// The types below are the one definition of the API's JSON: the server
// validates against their tags and publishes them as OpenAPI.
package client
