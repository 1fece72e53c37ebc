// Package fault breaks a cluster of real processes on this machine, in every
// way of the catalogue (package scenario), and mends it again.
//
// A Lab is the cluster with all that can be done to it from outside. A Strike
// is one fault on it: its targets are found by role when it is prepared; then
// Inject breaks, Bit waits for proof that it bit, Heal mends, and Healed waits
// for proof that nothing is left. A fault without proof is not counted, and a
// run with none shows nothing. What the product itself must do about a fault,
// such as refusing to start with damaged files, is part of the proof: if it
// does not, the error is a Violation.
//
// Invariants: Heal may be called after a failed Inject, and mends what was
// done so far. Two strikes never own one node's process at a time: the later
// one is told ErrBusy and does nothing. A node that ended for good never comes
// back under its name.
//
// Goroutines: a strike that goes on by itself (flap, strobe, restart loop) has
// one, which Heal ends; the supervised calls and the switch have theirs. Lab.mu
// guards the list of nodes, the claims on them, and each node's fields; it is
// held for no call that waits.
package fault
