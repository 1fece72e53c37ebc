// Package scenario is the file that says how to break a cluster: its seed, the
// cluster, the load, what counts as healthy, which faults come when and where,
// which bounds must hold, and when to stop. The same file runs in simulation
// and on real processes.
//
// Parse is strict: an unknown field, fault, role or parameter is an error that
// names its line and field. A scenario that parses is complete: every default
// has been put in.
//
// The catalogue (Faults) is the one list of faults: which there are, what they
// may aim at, which parameters they take, and which tiers have them.
//
// Randomness: Plan draws every random step from the scenario's seed alone, so
// that one seed gives one schedule. Roles are resolved when a step begins,
// because only then is it known who leads.
//
// Goroutines: none. Nothing here has state.
package scenario
