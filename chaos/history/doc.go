// Package history is the record of a chaos run: what clients asked and were
// told, what was broken and healed, what the nodes said of themselves, and
// which effects the tasks had outside the cluster. Checkers judge a run by its
// history alone, so that a kept one can be judged again.
//
// A run's folder holds
//
//	run.json       [Run]: what ran, on what, under which seed and bounds
//	history.jsonl  one [Event] per line, in the order in which they were seen
//	ledger/effects the lines that tasks append, one [Effect] each
//
// Invariants:
//
//   - Every time is in nanoseconds since the run's start, on one monotonic
//     clock. The wall clock is in Run.Started alone, for people.
//   - A client's operation is an Invoke and at most one of OK, Refused and
//     Unknown with the same ID. Refused means that it had no effect and never
//     will; what cannot be told is Unknown and may take effect at any later
//     time. An Invoke that nothing follows counts as Unknown.
//   - What a tester that was killed left behind can be read: a last line
//     without its end is left out, and said to be.
//
// Goroutines: none. A [Writer] may be shared; its lock orders the lines and
// stamps their times, so that the file is in order of time.
package history
