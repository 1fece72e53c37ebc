// Package dispatch is the leader's end of the worker protocol.
//
// A Hub serves one session per worker. At its start it sends what the state
// holds for the worker, afterwards what changes; anything that the worker has
// and the state does not know is superseded in the Welcome. So the state is
// the only truth, and a session can be dropped at any moment without loss.
//
// Before each Assign goes out, the attempt is looked up in the state again, by
// the one goroutine that writes to the session. An attempt whose end was
// acknowledged in this session is therefore never assigned again by it.
//
// # Renewals (P3)
//
// A renewal is recorded in the lease table at its receipt, then the leader
// verifies that a majority still follows it, and only then acknowledges. All
// renewals that arrive during one verification share the next one. A deposed
// leader fails the verification, so it can never extend a lease. Package
// worker/lease holds the whole argument. A Hello counts as a renewal.
//
// # Who owns what
//
// Lead belongs to one goroutine, once per office. Serve is called by one
// goroutine per stream and starts two more, for writing and for reports; all
// end before it returns. Notify never blocks. Hub.mu guards the set of
// sessions, session.mu one session's queues; neither is held while the other
// is taken, nor during I/O, a proposal or a verification.
package dispatch
