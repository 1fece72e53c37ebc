// Package node is a node's life: it is made (Init, Join), it runs (Start,
// Run, Dev), it ends (Shutdown, Leave). It wires the rooms below it together
// and owns every goroutine that they do not own themselves; what a room is
// good for stands in that room's own documentation.
//
// # Order
//
// A start opens, in this order: the data folder and the log in it, the one
// port, the sandboxes (whose proof of isolation runs beside the rest), the
// outputs, the raft group with everything that its callbacks reach, gossip,
// the API, and last the worker. A shutdown goes the other way, after it has
// moved this node's duties: capacity, leadership, running tasks. Both ends
// share release, which closes whatever there is.
//
// # Invariants
//
//   - What the raft group's callbacks use is set before the group is opened;
//     what needs the group waits for grouped.
//   - A node that cannot trust its disk, its socket, its state or its
//     membership fails: its context ends with the cause, and nothing that it
//     still says counts. It never repairs itself while it runs.
//   - The proof of isolation holds before the node registers capacity, and it
//     registers before its worker asks for work.
//   - The address book, gossip and the configured peers are hints for finding
//     a node. Whoever answers there must prove by certificate to be it.
//
// # Goroutines
//
// The apply goroutine of consensus calls applied and restored: both only take
// note. OnLeadership runs lead, once per office. work holds what ends with the
// node's context: certificates, peers, the prober, the local worker's session.
// The worker's Run has a context of its own, because a drain outlives the
// node's. serving holds the two HTTP servers.
//
// # Locks
//
// watchers.mu, coalescer.mu and addressBook.mu are leaf locks: nothing else is
// taken, and nothing waits, while one of them is held.
package node
