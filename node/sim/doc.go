// Package sim runs a whole cluster in one process, on a simulated clock, under
// one seed: raft through package consensus, the state machine, the scheduler,
// the leases, the worker protocol and the forwarding of commands as they are,
// wired as package node wires them, over a network, disks, clocks and an
// executor that do what the seed says. It breaks them, mends them, and holds
// the cluster to its promises.
//
// # What is simulated, and what is not
//
// A disk loses what was not synced when the power goes, fails, fills, hangs and
// is slow. A machine's wall clock jumps, its monotonic one drifts. The network
// delays, holds back, repeats and loses. A process is killed, or stands still:
// then nothing leaves it, nothing reaches it, its clock shows the time at which
// it stopped, and its sandboxes go on. What goes on inside a process that
// stands still cannot be stopped, so its timers run; a leader that is thawed
// has mostly resigned already. Real processes show what that hides.
//
// Package storage, the transport, the API and the sandboxes are not here: they
// need files, sockets and a kernel.
//
// # Goroutines
//
// Everything is started through World.group and ends after World.stop. What a
// dead process has started cannot be stopped: it finds the world gone (its
// disk, its connections, its clock's owner) and ends by itself.
//
// # Locks
//
// World.mu, network.mu, disk.mu, the ledger's, the witness's and the book's are
// taken in no other order than: book, witness or ledger, then World.logMu.
// Nothing waits for simulated time while it holds one: testing/synctest does not
// let time pass while a goroutine waits for a mutex.
package sim
