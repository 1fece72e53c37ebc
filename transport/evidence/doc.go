// Package evidence watches one peer, the leader, for the end of its process.
//
// Timers notice a dead leader after hundreds of milliseconds, because they
// must not take a pause for a death. A host that still runs knows better: its
// kernel answers a packet to a port that nobody holds with "port unreachable",
// at once. A [Prober] keeps a connected UDP socket to the leader's port and
// writes one byte every few milliseconds, more often while the leader is used;
// the answer arrives as ECONNREFUSED.
// The byte is no QUIC packet: the leader's transport drops it.
//
// What this cannot see: a hung process, a host that is cut off, a network that
// eats ICMP. Those are left to raft's timers. What it can see wrongly: a forged
// ICMP message, and a leader that has already restarted. A Prober only
// reports; deciding, ranking, and limiting are the receiver's part. The other
// two kinds of evidence, a farewell and a stateless reset, come from
// transport.Config.OnEvidence.
//
// A Prober owns one goroutine. Prober.mu guards the target.
package evidence
