// Package wire is a network of our own: one namespace per host, each with a
// TUN device, joined by a switch in this process. Every packet passes through
// the switch, so it can be lost, held back, sent twice, overtaken, changed, or
// squeezed, per direction and per pair of hosts. Kernels without netem can do
// this too, and the host's network is not touched.
//
// Invariants:
//   - A packet meets every rule that is set for its way, in the order in which
//     they were set; chance is drawn from the switch's seed.
//   - A rule counts what it did. A fault that did nothing did not bite.
//   - What is held back is bounded; more is lost, as in a full queue.
//   - Namespaces have no name and live as long as the switch, or a process in
//     them; nothing is left when both are gone.
//
// Goroutines: one reader per port, and one that sends what was held back; Close
// ends them. Switch.mu is a leaf lock.
package wire
