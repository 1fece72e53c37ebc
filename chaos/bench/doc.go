// Command bench measures the figures of docs/benchmarks.md: holdfast beside
// etcd and beside the stock raft library, failover between network
// namespaces, memory, restarts, and a soak of the timers. `make bench` builds
// what it needs and runs it.
//
// It is a list of suites; each defines its figures, adds samples to them and
// leaves nothing behind. What is compared is measured in turns in one run.
// The program itself runs the clients of holdfast; etcd's run in a process of
// their own (folder peer), with the same generator of load.
//
// Invariants: every loop is bounded in time and count; every process,
// namespace and folder that a suite makes ends with it, or with this process.
//
// Goroutines: suites run one after the other; each waits for what it started.
package main
