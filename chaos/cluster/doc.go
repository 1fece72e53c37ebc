// Package cluster runs throw-away clusters of the real binary as processes of
// this machine: for the demo, for whole-cluster tests and for benchmarks.
// Nothing test-only is in the binary: faults come from outside, as signals.
//
// Invariants: every process that is started here dies with this process, even
// if this one is killed (parent-death signal); Close ends all of them and
// removes the folder.
//
// Goroutines: one per running process, locked to its thread for the life of
// that process, because the kernel sends the parent-death signal when the
// thread that forked ends.
package cluster
