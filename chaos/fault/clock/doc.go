// Package clock moves the wall clock of one running process, and of no other:
// Go reads the time through the vDSO, a page of code that the kernel gives each
// process, and that page is patched from outside and made whole again. The
// monotonic clock stays as it is, as on a machine whose wall clock is set.
//
// Invariants: a process is stopped while it is patched, and only at a moment
// when none of its threads is inside the vDSO; Restore puts back the kernel's
// own bytes.
//
// Goroutines: none. amd64 alone.
package clock
