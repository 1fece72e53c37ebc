// Package launch starts programs the way that faults need: in another network
// namespace, or with their disk's system calls under the tester's supervision.
// The program itself is not changed and not told: this binary is started
// first, by another name, arranges everything, and becomes it by exec, with the
// same process ID.
//
// It also gives the tester a network and mount namespace of its own, so that
// nothing that it does can touch the host's, and nothing can be left behind.
//
// RunIfChild must be the first thing in main, also in a test's.
//
// Goroutines: Private has one that hands on signals, which ends with it.
package launch
