// Package outputs keeps what attempts write to stdout and stderr on the
// worker's own disk, and serves it to readers while it is being written and
// long afterwards.
//
// # Files
//
// Each stream is one file, t<task>.<attempt>.stdout or .stderr, a sealed stream
// of consensus/storage whose label is the file's name: a file cannot be read
// under another name. It is made at the first byte, so that a silent attempt
// costs nothing. Its last chunk says that it is complete; a file that lacks it
// and is not being written was cut short by a crash, and reading it ends with
// ErrCutShort after everything that was flushed. Nothing is synced: outputs
// are not part of any promise across a power failure.
//
// # Bounds
//
// Each attempt has a limit over both streams, the folder one over all
// attempts, in bytes, number and age. The oldest finished attempts go first.
// What does not fit (a limit, a full disk, an I/O error) is dropped, and the
// attempt's output says that it is truncated; the task never notices and the
// node never fails because of it.
//
// # Who owns what
//
// There are no goroutines; a timer per attempt flushes what readers wait for.
// recorder.mu guards one attempt's writers, Store.mu the index. A recorder may
// take Store.mu while it holds its own, never the other way round. Readers
// share nothing with writers but the file and a channel that says "more".
package outputs
