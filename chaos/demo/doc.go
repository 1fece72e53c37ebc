// Package demo runs the main job on a throw-away cluster of real processes:
// one task per package directory of the Go standard library, with the
// directory as a read-only grant, while the leader is killed and started
// again. It checks every result against a computation of its own and leaves
// nothing behind.
package demo
