// Package fsm is the replicated state of a cluster: tasks, nodes, tokens and
// settings, and the commands that change them. Every node applies the same log
// to it and gets the same state, down to the hash (promise P9).
//
// # What it must not do
//
// No clock, randomness, goroutine, channel, logging, input or output, and no
// order of a map anywhere: TestPackageIsPure reads the syntax and fails on
// them. Time is the batch's, given by the leader, and never falls. A bad
// command is answered by a Result and leaves the state as it was. What this
// release does not know (a command type, version, field or format) is an error
// of Apply, and the node stops: skipping it would make replicas differ.
//
// # Unknown fields
//
// An older release must not guess. A newer one writes new fields, types and
// versions only after SetFeatureLevel, which needs every registered node to
// know the level, so an old node sees them only if it was left out, and then it
// stops. Whatever an older release has written stays readable: fields are
// added with new numbers and are absent in old input, numbers are never used
// again, golden files of every version are decoded by the tests. A leader
// passes what other nodes send through Check, so that nobody can put into the
// log what would stop every replica.
//
// # Formats
//
// Everything is core deterministic CBOR with integer keys (RFC 8949, section
// 4.2.1). The envelope of a command is Command; the bodies stand beside the
// command types. Batches are described at EncodeBatch, snapshots in frames.go
// and record.go. The hot formats (envelope, Submit, Assign, Report, task
// records) are read by a strict reader (wire.go) that refuses any other
// encoding of the same values; for the others the general library is set to
// refuse duplicate keys, tags and indefinite lengths.
//
// # Tasks
//
// A task is Queued or Running, and then in one of four terminal states for
// ever. Invariants, checked by the model test after every batch:
//
//   - accepted = queued + running + ended, over the cluster's life;
//   - a task runs on one node, by its last attempt, and an attempt's number is
//     used once: it is the fencing token (P2, P3);
//   - a node's use is the sum over its running and superseded attempts, and
//     never over what it has, unless it registered again with less;
//   - a line (class) is in the order of task IDs, whoever came back when;
//   - a task's timer is a function of its recorded fields.
//
// A queued task is ready (in its class's line, where PlanView sees it and
// Assign takes it) or held back: by a backoff, until a Tick after its due time;
// or by a superseded attempt that may still run. An attempt is superseded by a
// cancel or by the backstop of the run timeout, while its worker is alive. It
// keeps its share of the worker's capacity, and no other attempt of the task
// starts, until the worker reports it, restarts, is lost or is removed.
//
// Attempts end by failure (exit status, signal, timeout, memory, start), which
// counts toward RetryLimit and waits for the backoff, or are lost with their
// worker (loss, restart, removal, shutdown), which counts toward
// MaxLostAttempts alone. The wait in the queue is counted over all attempts;
// the backoff is no part of it.
//
// Terminal tasks are kept for readers, the newest FinishedKept of them.
//
// # Requests
//
// A command with a request ID takes effect once: its result is remembered, and
// the same ID is answered by it, also within one batch. The newest
// RequestIDsKept results are kept (262,144: five seconds of the greatest rate,
// minutes of a usual one), so a retry must come within that window. Only
// commands that took effect are remembered: a refusal left the state as it
// was, and its retry may succeed. The ID alone is the key: whoever makes IDs
// out of clients' keys must mix in who asked.
//
// # Locks
//
// State has one lock; methods take it themselves and call no other code while
// they hold it. Apply holds it for one batch, readers for one answer (List and
// snapshots for a few pages at a time). What readers get is a copy or never
// changes. machine has no lock and is only reached under State's.
//
// A Snapshot is taken in a time that does not depend on the number of tasks.
// It remembers a generation; machine.touch saves the old value of a task that
// changes for the first time since, unless its page is written already. Only
// the goroutine that writes the snapshot may call its methods.
package fsm
