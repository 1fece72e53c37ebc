// Package workertest is a cluster in memory for tests: a replicated state per
// node, real lease tables, hubs and workers, and an executor that runs nothing
// but keeps book of who ran what and when. Leaders change, nodes are cut off
// and crash on demand. Time is testing/synctest's: make a Cluster inside a
// bubble.
//
// The log is a list: whoever leads appends, everybody that is not cut off
// applies at once, the others catch up when they are healed. That is all of
// consensus that the worker protocol can see.
package workertest
