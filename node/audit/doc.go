// Package audit keeps what happened in files that tell when they were changed.
//
// Each record is one line of JSON in <dir>/audit-<first seq>.jsonl: seq, time,
// principal, source, action, target, outcome, and prev, the hash of the record
// before. Its own hash is HMAC-SHA-256 of the line without it, under the
// configured key (SHA-256 without one). Verify finds edited, deleted, inserted
// and reordered records and files missing between others. What a chain alone
// cannot show is that its end was cut off: compare Head with a copy kept
// elsewhere. Without a key, whoever can write the files can make a new chain;
// with one, only who has the key can.
//
// Durability: records are written in the order of their seq by one goroutine
// and synced once per interval (default 200 ms) and at Close. A crash of the
// process loses nothing that was written; a crash of the host at most the last
// interval. A mutation is not held up for the sync: its effect is durable in
// the replicated log, which names the principal too.
//
// Room: Begin claims one of a bounded number of slots before a mutation and
// blocks while there is none; End uses it and never blocks or fails. So no
// mutation happens without room for its record. When a write fails
// (disk full), the writer keeps every record it has and tries again; until it
// succeeds, Begin refuses, and mutations with it. After a failed sync Begin
// refuses until the node is started again: the kernel may have dropped what it
// could not write. Note, for refusals, takes a
// slot only if one is free; what finds none is counted, and the count becomes
// a record of its own ("audit.missed").
//
// After a crash the last file may end in half a record: Open cuts it off and
// says so with a record ("audit.cut"). A file that is broken in any other way
// is left as it is, for Verify to find; the chain goes on in a new file from
// the last good record ("audit.broken").
//
// Goroutines: one writer per Log, ended by Close. It owns file, size and the
// chain; mu guards what callers see: the failure and the count of the missed.
package audit
