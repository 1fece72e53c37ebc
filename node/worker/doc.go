// Package worker runs the attempts that the leader assigns to this node.
//
// A Worker keeps one session to whoever leads (package protocol). It starts a
// sandbox per attempt, exactly once per incarnation, and keeps each end until
// the leader says that it is committed or superseded. A change of leader is a
// new session and nothing else: sandboxes run on, ends wait (P5).
//
// # Self-fencing (P3)
//
// The naive worker stops its tasks when it is told to. A worker that is cut
// off is told nothing, while the leader hands its tasks to somebody else. So
// the right to run is a lease: a renewal that was sent at s and acknowledged
// lets the worker run until s + lease - margin by its own clock. When that
// moment comes without another acknowledgement it kills every sandbox and
// reports EndLost for each, whatever the sandbox still answers. The leader
// waits a whole lease from the receipt, which is later than s. Package
// worker/lease holds the other half of the argument.
//
// The lease counts from the sending, not from the answer, so a slow network
// shortens it and never stretches it. The clock is injected: a node passes
// CLOCK_BOOTTIME, because the monotonic clock of Go stands still while the
// machine sleeps. A timer may be late after such a sleep, so the deadline is looked at
// several times per lease and again before each start.
//
// What a fenced worker cannot do for itself: while its whole process is
// stopped (SIGSTOP) or starved, nobody looks at the deadline. The executor
// must bring its own dead-man's handle for that; Executor.Extend feeds it.
//
// # Capacity
//
// The state frees capacity when it supersedes an attempt, which is before the
// sandbox is dead. A new attempt therefore waits here until there is room, and
// until no other attempt of the same task lives.
//
// # Who owns what
//
// Worker.mu guards every field of Worker and of its attempts. It is never held
// while a sandbox starts, during I/O on a session, or while waiting; Sandbox.Kill
// and Sandbox.Stop are called with it held and must not block. Run owns one
// goroutine for the session, one for its writer, one for the fence, and each
// attempt owns one. All end before Run returns.
package worker
