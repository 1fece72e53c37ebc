package check

import (
	"slices"
	"time"

	"holdfast/chaos/history"
)

// checkIndex: for one client the log never runs back: a read reflects at least
// the index that the client was told before the read began, by whatever node.
func checkIndex(j *judge) func() Verdict {
	v := Verdict{
		Check: "index-never-back", Guards: []string{"P4"}, Kind: Safety, Unit: "reads by clients that had seen an index",
		Claim: "no client read a state older than one that it had been shown before",
	}
	highest := map[int]uint64{}
	j.onInvoke = append(j.onInvoke, func(c *call) { c.floor = highest[c.process] })
	j.onEnd = append(j.onEnd, func(c *call) {
		if !c.ok() {
			return
		}
		if !c.write() && c.index > 0 && c.floor > 0 {
			v.Judged++
			if c.index < c.floor {
				v.add(Violation{At: c.ended, Task: c.task, Node: c.node, Text: sprint(
					"client %d had seen index %d before it asked %s at %s, and was answered from index %d", c.process, c.floor, c.node, at(c.invoked), c.index)})
			}
		}
		highest[c.process] = max(highest[c.process], c.index)
	})
	return func() Verdict { return v.end("no client read after it had seen an index") }
}

// underWay is by how much an age may be too low: it counts from when the node
// heard of the leader's commit, and leaves out how long that had been under
// way. Beyond a tenth of a second it misleads.
const underWay = 100 * time.Millisecond

// checkStale: a stale answer is no older than it says, and says no more than
// it may. What was acknowledged before the answer's age began must be in it.
func checkStale(j *judge) func() Verdict {
	v := Verdict{
		Check: "stale-within-age", Guards: []string{"P4"}, Kind: Safety, Unit: "stale answers",
		Claim: "every stale answer had all that was acknowledged before its age began",
	}
	// acks is the highest index acknowledged so far, by time.
	type ack struct {
		at    int64
		index uint64
	}
	var acks []ack
	oldest, excess := int64(0), int64(0)
	j.onEnd = append(j.onEnd, func(c *call) {
		if !c.ok() {
			return
		}
		if c.write() && (len(acks) == 0 || c.index > acks[len(acks)-1].index) {
			acks = append(acks, ack{c.ended, c.index})
		}
		if c.write() || !c.stale || c.index == 0 {
			return
		}
		if c.age < 0 {
			return // it does not say how old it is
		}
		v.Judged++
		oldest = max(oldest, c.age)
		if c.maxAge > 0 && c.age > c.maxAge {
			v.add(Violation{At: c.ended, Task: c.task, Node: c.node, Text: sprint(
				"%s answered with a state up to %s old, at most %s was asked for", c.node, at(c.age), at(c.maxAge))})
		}
		// The answer was made after it was asked for: what was acknowledged
		// earlier than that by its age must be in it.
		before := c.invoked - c.age - int64(underWay)
		n, _ := slices.BinarySearchFunc(acks, before, func(a ack, t int64) int {
			if a.at < t {
				return -1
			}
			return 1
		})
		if n > 0 && acks[n-1].index > c.index {
			v.add(Violation{At: c.ended, Task: c.task, Node: c.node, Text: sprint(
				"%s answered from index %d and called it at most %s old, but index %d had been acknowledged at %s, %s before it was asked",
				c.node, c.index, at(c.age), acks[n-1].index, at(acks[n-1].at), at(c.invoked-acks[n-1].at))})
		}
		// What it was acknowledged to be older than it said.
		if n, _ := slices.BinarySearchFunc(acks, c.index+1, func(a ack, i uint64) int {
			if a.index < i {
				return -1
			}
			return 1
		}); n < len(acks) {
			excess = max(excess, c.invoked-c.age-acks[n].at)
		}
	})
	return func() Verdict {
		if v.Judged > 0 {
			v.note("the oldest answer called itself up to %s old; one was %s older than it said (up to %s is how long the leader's word may be under way)", at(oldest), at(max(0, excess)), at(int64(underWay)))
		}
		return v.end("there was no stale read")
	}
}

// checkHashes: the same log gives the same state on every node.
func checkHashes(j *judge) func() Verdict {
	v := Verdict{
		Check: "state-hashes-agree", Guards: []string{"P9"}, Kind: Safety, Unit: "indexes at which two nodes told their state's hash",
		Claim: "nodes at the same index had states with the same hash",
	}
	type first struct {
		hash, node string
		others     int
	}
	at := map[uint64]*first{}
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Sample || e.State == nil || e.State.Hash == "" {
			return
		}
		f := at[e.Index]
		switch {
		case f == nil:
			at[e.Index] = &first{hash: e.State.Hash, node: e.Node}
			return
		case f.hash != e.State.Hash:
			v.add(Violation{At: e.At, Node: e.Node, Text: sprint(
				"at index %d the state of %s has the hash %.16s and that of %s %.16s", e.Index, f.node, f.hash, e.Node, e.State.Hash)})
		}
		if f.node != e.Node {
			if f.others++; f.others == 1 {
				v.Judged++
			}
		}
	})
	return func() Verdict { return v.end("no two nodes told the hash of their states at one index") }
}

// checkLeaders: a term has one leader.
func checkLeaders(j *judge) func() Verdict {
	v := Verdict{
		Check: "one-leader-per-term", Guards: []string{"P1"}, Kind: Safety, Unit: "terms in which a node said that it leads",
		Claim: "no two nodes said of themselves that they lead in one term",
	}
	leads := map[uint64]string{}
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Sample || e.State == nil || e.State.Role != "leader" || e.State.Term == 0 {
			return
		}
		was, known := leads[e.State.Term]
		switch {
		case !known:
			leads[e.State.Term] = e.Node
			v.Judged++
		case was != e.Node:
			v.add(Violation{At: e.At, Node: e.Node, Text: sprint("both %s and %s said that they lead in term %d", was, e.Node, e.State.Term)})
		}
	})
	return func() Verdict { return v.end("no node was asked whether it leads") }
}
