// Package api is the HTTP API that every node serves.
//
// A request's way: the outer handler (server.go) bounds it, finds the
// principal and its rate; the mux finds the operation; the gate (operation.go)
// asks the policy, checks the content type and the query; the operation reads
// its parameters and strictly decodes its body, and asks the Backend. huma
// routes, reads parameters and describes everything as OpenAPI; it never sees
// a body, because encoding/json understands documents that strictjson refuses.
//
// Invariants:
//   - Nothing is served without a principal and a rule that allows it, but the
//     operations that the policy calls public.
//   - Every answer that is not a success is an RFC 9457 problem with a type of
//     client's codes; 429 and 503 carry Retry-After. A panic answers internal
//     and says nothing of its cause.
//   - Every mutation and every refusal is audited. A mutation starts only when
//     the audit has room and works; its outcome is recorded before its answer
//     is written. Reads that succeed are not recorded.
//   - A request ID goes with every command, so that the Backend may try again.
//     With an Idempotency-Key it is the SHA-256 of principal, operation and
//     key; without one it is random. The state remembers the IDs of commands
//     that took effect, not their bodies: a key that comes again with another
//     spec is a conflict as long as this node still has the first task.
//   - Bounded: header, URL, body, depth, line, lines in flight, requests at a
//     time (long ones separately), principals and rates, and every wait.
//
// Goroutines: one reader per submission stream, which ends before its handler
// does. Everything else runs in the caller's. Locks: rates.mu alone, held for
// map operations.
package api
