// Package workload loads a real cluster through the project's client and
// records what happens: what was asked of which node, and what was answered.
//
// [Load] runs recording clients with a mix of operations, a prober that writes
// to every node on a fixed beat whether or not the last write was answered, a
// sweeper that reads all tasks back, and a sampler of what the nodes say of
// themselves. [Ledger] is the folder outside the cluster that every attempt
// writes its effects to.
//
// Invariants:
//
//   - An outcome is Refused only if every try of the call was answered with a
//     refusal that promises that nothing was changed, or never reached a node.
//     Everything else without an answer is Unknown, and stays it.
//   - A submission's task bears the request's key as its name, so that every
//     read tells which request made a task.
//   - A client does one thing after the other; what it has given up on may
//     still take effect, and another client may send it again.
//   - The prober never waits for an answer before it sends the next write.
//
// Goroutines: one per client, one per node for the sampler, one for the
// sweeper, one per probe under way. All end before Load.Run returns.
package workload
