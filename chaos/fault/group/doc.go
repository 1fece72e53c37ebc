// Package group puts a node's process into cgroups of the tester's own, by
// which it can be frozen, starved of CPU, or run out of memory. Version 1 and
// version 2 of cgroups are known.
//
// Invariants: only groups that were made here are written to; what was put in
// goes back where it came from, and the groups are removed. A process that was
// started in a group's process while it was there goes back too.
//
// Goroutines: none.
package group
