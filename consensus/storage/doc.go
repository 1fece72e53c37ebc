// Package storage keeps one node's raft state on its disk: log, term and vote,
// snapshots, and the identity that binds them to the node.
//
// # The stack
//
//	raft -> ring -> watchdog -> sealing -> backend (journal, raft-boltdb; fsync on)
//
// Reads of recent entries are answered by the ring (the last entries, bounded
// in number and bytes): otherwise every replication round decodes from disk.
// The watchdog times every write from outside and latches after the first
// failure. Sealing compresses and encrypts each entry. The backend is behind
// [Backend]; the one that ships is raft-boltdb with a journal in front of it
// ([Journaled]), and a write-ahead log can take bbolt's place.
//
// # Invariants
//
//   - Nothing that raft stores lies on the disk in clear: entries (with their
//     extensions and times), term, vote, snapshots and their metadata are
//     AES-256-GCM under subkeys of one store key. In clear are an entry's
//     index, term and type, the names of stable keys, and the identity.
//   - What cannot be authenticated is never served: a [*DamageError] names the
//     file, the place and what to do.
//   - After a failed write nothing on this disk is trusted: the store latches,
//     OnFailed fires once, and every later call that would touch the disk
//     fails with the same error. Only the ring still answers: its entries were
//     durable before the failure, and raft panics when a committed entry
//     cannot be read, which would rob the node of its orderly exit.
//   - A write that hangs is reported (OnStall), until the owner has heard
//     enough, and never abandoned, repeated, or answered for.
//   - A folder belongs to one node of one cluster and to one process at a time.
//
// # What it does not promise
//
// Authentication covers each value, not the age of the whole folder: a store
// put back from an older copy of all its files passes. Of its single parts, a
// log that lost acknowledged entries at its end is noticed by the tail mark
// (see mark.go) while that file survives.
//
// # Goroutines and locks
//
// The journal's mover is the one goroutine of the package, from open to Close;
// the watchdog uses timers, which end with the write that they watch. One goroutine at a time calls StoreLogs:
// raft's main one, or for a leader's append the one that writes for it
// (consensus.overlap). raft's main goroutine alone calls the stable store, its
// snapshot goroutine calls DeleteRange and the snapshot store, any goroutine may
// read. Lock order: logStore.mu, then ring.mu, or
// journaled.write, then journaled.mu; the watchdog's lock is a leaf.
//
// # Snapshots: what travels
//
// raft sends a follower what SnapshotStore.Open returns and expects exactly
// meta.Size bytes. The snapshot store therefore encrypts but does not
// compress: meta.Size counts the bytes that went into the sink. Compression
// sits above raft, around the state machine ([Compressing] for Persist,
// [Decompressing] for Restore), so that the zstd form is what lies on the
// disk, what is counted, and what travels (inside the encrypted transport).
package storage
