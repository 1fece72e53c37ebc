// Package api is the API that every node serves: over HTTP, and for
// submissions over the SDK's pipelined RPC as well.
//
// A request's way: the outer handler (server.go) bounds it, finds the
// principal and its rate; the mux finds the operation; the gate (operation.go)
// asks the policy, checks the content type and the query; the operation reads
// its parameters and strictly decodes its body, and asks the Backend. huma
// routes, reads parameters and describes everything as OpenAPI; it never sees
// a body, because encoding/json understands documents that strictjson refuses.
//
// The RPC's way (fast*.go, package frames): ServeFast reads a hello, then
// requests, all that are there at a time; checks them, proposes each as its own
// command, and answers as outcomes come. It is the same API, not another one:
// a request of one spec is the operation submit-task, of more submit-batch, to
// the policy, in the audit and in request IDs, so that a key that was used over
// HTTP is known over the RPC. It avoids huma, reflection, and goroutines per
// request, because it is made for 50,000 submissions a second.
//
// Invariants:
//   - Nothing is served without a principal and a rule that allows it, but the
//     operations that the policy calls public.
//   - Every answer that is not a success is an RFC 9457 problem with a type of
//     client's codes; 429 and 503 carry Retry-After. A panic answers internal
//     and says nothing of its cause.
//   - Every mutation and every refusal is audited. A mutation starts only when
//     the audit has room and works; its outcome is recorded before its answer
//     is written. Reads that succeed are not recorded. Over the RPC one record
//     stands for the requests that were read together (see fastFlush), and is
//     written with the last one's outcome.
//   - A session of the RPC does not outlive its token: that is checked for
//     every group of requests, and once a second.
//   - A request ID goes with every command, so that the Backend may try again.
//     With an Idempotency-Key it is the SHA-256 of principal, operation and
//     key; without one it is random. The state remembers the IDs of commands
//     that took effect, not their bodies: a key that comes again with another
//     spec is a conflict as long as this node still has the first task.
//   - Bounded: header, URL, body, depth, line, lines in flight, requests at a
//     time (long ones separately; a session is one), requests and bytes of a
//     session without an answer, principals and rates, and every wait.
//
// Goroutines: one reader per submission stream and one writer per session,
// which end before their handler does. Everything else runs in the caller's,
// and the outcomes of a session in the Backend's callbacks, which never block.
// Locks: rates.mu, fastFlush.mu and fastSession.mu, none taken under another,
// each held for operations in memory.
package api
