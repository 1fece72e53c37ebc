// Package netns makes network namespaces that are joined by a bridge in one of
// their own: the host's network is not touched. It needs root and iproute2.
//
// Invariants: everything is named after this process; Close removes it all,
// and New removes what a process that is gone has left.
package netns
