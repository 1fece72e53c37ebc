// Package cgroup finds where each controller lives and makes one group per
// attempt in it.
//
// The naive design asks "is this machine v1 or v2?". It breaks on hybrid
// machines, where v2 is mounted and holds only some controllers. Here every
// controller (memory, cpu, pids, cpuacct) is looked up by itself: v2 where the
// v2 root offers it, else the v1 hierarchy that carries it.
//
// On v2 the groups are made below the node's own cgroup when systemd delegated
// it (Delegate=yes) or when it is the root that a container sees, and otherwise
// below the machine's root; systemd owns everything in between. A cgroup other
// than the machine's root may not hold processes beside children with
// controllers, so there the node moves itself into the leaf "node".
//
// Invariants: existing groups are never changed, but for enabling controllers
// for children on v2; every directory made here is named after the parent's
// name; the parent is locked (flock) for as long as its Manager lives, so two
// nodes never share one.
//
// A Manager is safe for concurrent use; a Group belongs to one goroutine.
package cgroup
