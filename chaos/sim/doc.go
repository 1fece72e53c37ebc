// Package sim drives the simulation (node/sim) for people: with new seeds, with
// one seed, or with one seed exactly as before.
//
// The simulation is a test. It runs in bubbles of testing/synctest, and those
// exist only inside a test binary: there is no honest way to have them in the
// shipped one. So the driver builds the test from the module's source with the
// go command, and needs both. Natively a seed draws the configuration, the
// faults and the clients, and the Go scheduler has a say in the rest: most
// findings come again, not all. Replay builds the same test for wasip1 and runs
// it in chaos/sim/replay, where there is one thread and no chance, so that a
// seed is one run for ever; it is some ten times slower.
//
// It starts no goroutine of its own.
package sim
