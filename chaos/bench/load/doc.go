// Package load makes load and measures it. The benchmarks of holdfast and of
// the system that they stand beside use the same code, so that nothing of a
// ratio comes from the measuring.
//
// Invariants: every run is bounded in time, and in operations if asked; the
// histogram has a fixed size whatever it is given.
//
// Goroutines: Closed starts one per client, Open at most a bounded number at a
// time; both return when all have ended.
package load
