// Package lease keeps the workers' leases on the leader.
//
// A worker's lease is its right to run attempts. The state holds no lease: a
// clock that every replica could read would have to go through the log. The
// leader remembers in memory when it last heard each worker and, after one
// lease time of silence, proposes that the worker is lost.
//
// # Why no two workers run one task (P3)
//
// Let L be the lease and M the margin.
//
//  1. A worker that sends a renewal at s, and gets its acknowledgement, may
//     run attempts until s + L - M by its own clock; then it kills them all.
//
//  2. The leader that acknowledged received the renewal at r >= s, recorded r
//     (Keeper.Heard), and only afterwards verified that a majority still
//     followed its term. It proposes the loss no earlier than r + L, and from
//     that decision on it acknowledges nothing of this incarnation.
//
//  3. Another leader can have been elected only after that verification
//     began, so at e > r. It gives every worker one full lease from e (Run) and
//     proposes no loss before e + L > s + L.
//
//  4. An expiry that the old leader proposed and the new one inherited was
//     decided by rule 2, and is applied before the new leader's Run starts.
//
//  5. What an office decided takes effect in that office or not at all, also
//     when the same node holds the next but one (Config.Propose sees to it, by
//     the context that Run was given): between the two another leader may have
//     renewed.
//
// So whoever decides, the decision falls at least M after the worker began to
// kill. M pays for the killing and for the drift between two clocks that run
// at the same rate to within some parts in a thousand: no clock is compared
// with another, only durations are.
//
// A leader that is stopped for a while wakes with an old idea of its office:
// rule 2 makes its acknowledgements harmless, and its proposals cannot commit.
//
// # Who owns what
//
// Run belongs to one goroutine, once per office. Heard and Notify may be
// called from any goroutine. There is one lock, never held while proposing.
package lease
