// Package report writes what is known of a chaos run for people and programs:
// one page of HTML that needs no network, the same as JSON, and JUnit for CI.
//
// Invariants:
//
//   - The page names no address that a browser would fetch, and what clusters
//     and clients said is escaped: an error's text is no markup.
//   - What was not exercised is listed beside what held; it is never left out.
//   - Everything is drawn from the history and the judgement. The page holds
//     no figure of its own.
//
// Goroutines: none.
package report
