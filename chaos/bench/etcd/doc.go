// Package etcd runs a throw-away etcd cluster, the peer that holdfast is
// measured beside: Debian's etcd-server, three processes on loopback, defaults
// everywhere but for TLS 1.3-capable certificates on both ports (mutual
// between the members, as between holdfast's nodes).
//
// Invariants: every process that is started here dies with this process; Close
// ends all of them.
package etcd
