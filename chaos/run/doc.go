// Package run runs a scenario on a throw-away cluster of real processes on this
// machine: it starts the cluster, loads it, waits for the steady state, breaks
// and heals it by the scenario's plan, waits until all is well again, settles,
// and has the history judged.
//
// Invariants: every fault that was begun is healed, also when the run is
// stopped; the history says when each fault was injected, seen to bite, healed
// and seen to be healed; a run that could not get that far says so and is no
// verdict.
//
// Goroutines: the load's; one per strike; one that keeps nodes alive as a
// service manager would, and notes what they hold of the host. All end before
// Run returns. The run's own lock guards its counts alone.
package run
