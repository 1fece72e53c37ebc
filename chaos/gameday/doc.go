// Package gameday breaks a node of a real cluster by a signed order, and heals
// it whatever happens.
//
// It is off unless an operator starts a guardian beside a node and gives it the
// public half of a chaos key, which is good for nothing else. A tester sends
// the guardian an order: signed, for one cluster and one node, good for at most
// ten minutes and one use. The guardian checks it, asks the cluster whether it
// can spare the node, writes down what it is about to do, and does it. It knows
// two faults, neither of which can destroy data: the node's process stands
// still, or dies as by kill -9 and is started again by the service manager.
//
// The guardian heals when the time is over, when the tester has not renewed its
// order, on a halt, when another node is lost, when it ends itself, and, if it
// was killed or the machine rebooted, when it starts again. Then it waits until
// the node serves, and says how long that took. What it cannot see healed it
// says so.
//
// Invariants: no fault without a line in the journal that was synced before; at
// most one at a time per guardian; none while the cluster could not lose a
// voter; a process is only ever signalled if it is the one that listens at the
// node's socket and was started when the journal says.
//
// Goroutines: one per fault in force, which ends with its heal; HTTP's own.
// Guardian.mu guards all of its state and is held for no wait.
package gameday
