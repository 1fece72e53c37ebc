// Package scheduler decides on the leader which worker runs which task.
//
// Plan is a pure function over a view of the state: the same view gives the
// same assignments. Its order is strict priority, then first come across all
// classes of equal priority. A class is a set of queued tasks that no worker
// could tell apart (same priority, demands, constraints, abilities and
// placement), so one that cannot be placed is set aside as a whole and never
// holds up another. Free capacity is counted down as the plan grows: within
// one plan no worker is promised more than it has. Because the state machine
// checks each assignment again, a stale plan costs a round, never an overlap.
//
// Strict means that a stream of small tasks can keep a large one of the same
// priority waiting: capacity is not reserved for what does not fit yet. The
// large one needs a higher priority, or workers of its own by constraint.
//
// Loop runs Plan whenever the state changed in a way that could matter, with
// one batch of assignments in flight at a time, so that each plan sees the
// effects of the one before. It also proposes the tick that moves the timers
// of the state when the earliest is due. It never polls.
//
// # Who owns what
//
// Loop.Run belongs to one goroutine, once per office. Loop.Notify may be called
// from any goroutine and never blocks. There are no locks.
package scheduler
