// Package calls supervises a process's system calls on files from outside: it
// can let them fail, or come back late, without a file system or a kernel
// module made for that, and without a line in the process itself. The kernel
// asks for each call that a seccomp filter names (see package launch).
//
// Invariants:
//   - A call that no rule is for goes on at once; the supervised process sees
//     a little delay and nothing else.
//   - Only files below the supervised folder are ever touched.
//   - When the supervisor ends, what waits goes on.
//
// Goroutines: one per supervised process, and one per call that is held back;
// Close ends them. Supervisor.mu is a leaf lock.
package calls
