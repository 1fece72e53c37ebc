// Package disk is a file system of one node's own, in a file, so that it can
// fill up, hang, or lose its power without anything else noticing. It needs
// root, loop devices and mkfs.ext4, and a mount namespace of our own (package
// launch), so that no mount outlives the tester.
//
// Invariants: a power failure loses what was not synced, and nothing else: the
// file system is shut down without writing its journal, and mounted again only
// when nothing uses it any more.
//
// Goroutines: none. A Disk is for one goroutine at a time.
package disk
