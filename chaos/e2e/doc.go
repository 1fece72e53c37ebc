// Package e2e holds tests of whole clusters: the real binary, as processes of
// this machine, with faults made from outside as signals, full and frozen
// disks, cut networks and damaged files.
//
// Invariants: the binary is built once per run, with the race detector if the
// tests have it; every test makes its own cluster and takes everything away
// again; nothing waits for time to pass, only for conditions; nothing asserts
// a speed. A node's report of a data race or a panic fails the test that ran
// it.
//
// The tests need root: they run sandboxes, mount file systems and make network
// namespaces of their own. Where that is missing they are skipped, but never
// with CI=true.
package e2e
