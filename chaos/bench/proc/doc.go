// Package proc starts processes that die with this one and reads what they
// use from /proc.
//
// Goroutines: one per running process, locked to its thread for the life of
// that process, because the kernel sends the parent-death signal when the
// thread that forked ends.
package proc
