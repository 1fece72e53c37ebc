// Package seccomp compiles a table of system calls into a BPF filter.
//
// The table (calls.txt) names every call of the kernel that may be made, always
// or by its arguments, and every call that is refused with more than "there is
// no such call". A number that it does not name returns ENOSYS: a call of a
// newer kernel is refused before anybody has looked at it, and programs fall
// back to what they did before it existed.
//
// The naive filter compares the call's number with every rule in turn. This one
// sorts the numbers into ranges of equal treatment and searches them as a
// balanced tree; calls whose arguments matter jump to a short tail. The kernel
// runs a new filter for every number of a call at installation, to remember
// those that are always allowed, so a short way counts twice.
//
// A call of a foreign architecture (ia32, x32) kills the process: its numbers
// mean other calls.
//
// # Invariants
//
//   - What the table does not name is refused.
//   - The filter does what the table says: the tests run it for every number,
//     on every architecture, from both sides of each condition.
//
// The package is pure: a table in, instructions out. It has no goroutines and no
// locks.
package seccomp
