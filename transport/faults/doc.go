// Package faults is the seam where a test, or a chaos tester, breaks the
// network of one node: a net.PacketConn around the node's socket, and a dialler
// for its probes, that obey one set of rules.
//
// Rules are per peer address and direction, and change at run time. Chance is
// drawn from a seeded source, so one goroutine's packets meet the same fate
// under the same seed.
//
// Wrapping a socket hides what quic-go could do with a bare one (GSO, ECN, path
// MTU discovery): wrap only where faults are asked for.
//
// Goroutines: one reader per wrapped socket, and one timer per delayed packet,
// at most maxPending. Close of the wrapped socket ends them all. Net.mu and
// conn.mu are leaf locks.
package faults
