// Package clienttest runs a small cluster's API in memory, for tests of
// programs that use the SDK. It has the wire of the real one - HTTPS with a
// cluster CA, tokens, problems, idempotency, streams, paged lists, followed
// output - behind several addresses, and faults on demand. It runs no
// processes: a task's command is one of a few words, see [Server.run].
//
// One mutex guards the whole state; handlers wait on a condition variable for
// changes and are woken by their request's end.
package clienttest
