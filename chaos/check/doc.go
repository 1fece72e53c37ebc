// Package check judges chaos runs by their histories. It is pure: it has no
// clock but that of the bounds on its own patience, and touches no client,
// file or socket, so that simulations and kept histories are judged by the
// same code as live runs.
//
// [Judge] reads a history once. It pairs the events of each operation, keeps
// a life for each task, and hands both to the checkers, which end in one
// [Verdict] each: held, violated, not exercised, or undecided. A check that
// had nothing to judge says so and never counts as held.
//
// Invariants:
//
//   - A checker never takes Unknown for an effect or for the absence of one.
//   - Every checker has histories made by hand that it must pass and such that
//     it must fail: see the table in hand_test.go.
//   - The same history gives the same judgement, violations in the same order,
//     unless the search for a linearization runs out of its time.
//
// Goroutines: none of its own; porcupine has some while it searches, and they
// end with it.
package check
