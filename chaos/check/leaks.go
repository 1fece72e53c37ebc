package check

import (
	"slices"

	"holdfast/chaos/history"
)

// What may stay above the calm before the faults, for each kind of thing a
// node holds of its host. Connections, pools and caches come and go, so that
// goroutines and descriptors have room; what a sandbox leaves in the kernel
// has none beyond what the node had before.
const (
	roomGoroutines  = 200
	roomDescriptors = 50
	// Clients that were cut off leave connections that a node only closes
	// when nothing has come on them for two minutes.
	roomSockets = 1000
	roomKernel  = 2 // processes, mounts, cgroups: one warm sandbox
	// roomFactor bounds what grows with the load that a node once had.
	roomFactor = 2.0
)

// checkLeaks: a node holds no more of its host after the faults and the load
// than in the calm before them.
func checkLeaks(j *judge) func() Verdict {
	v := Verdict{
		Check: "no-leaks", Guards: []string{"P10"}, Kind: Safety, Unit: "nodes with samples from before the faults and from after the load",
		Claim: "no node held more goroutines, descriptors, processes, mounts or cgroups after the run than before it",
	}
	type samples struct{ before, after []history.Counts }
	nodes := map[string]*samples{}
	var names []string
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Sample || e.Counts == nil {
			return
		}
		s := nodes[e.Node]
		if s == nil {
			s = &samples{}
			nodes[e.Node] = s
			names = append(names, e.Node)
		}
		switch j.phase {
		case history.Steady:
			s.before = append(s.before, *e.Counts)
		case history.Settled:
			s.after = append(s.after, *e.Counts)
		}
	})
	return func() Verdict {
		slices.Sort(names)
		for _, name := range names {
			s := nodes[name]
			if len(s.before) == 0 || len(s.after) == 0 {
				continue
			}
			v.Judged++
			for _, what := range held {
				before, after := most(s.before, what.of), least(s.after, what.of)
				if before < 0 || after < 0 {
					continue // it could not be seen
				}
				allowed := before + what.room
				if what.perSocket > 0 {
					extra := least(s.after, sockets) - max(0, most(s.before, sockets))
					allowed += what.perSocket * max(0, extra)
				}
				if what.grows {
					allowed = max(allowed, int(float64(before)*roomFactor))
				}
				v.note("%s: at most %d %s before the faults, at least %d after the load", name, before, what.name, after)
				if after > allowed {
					v.add(Violation{At: j.now, Node: name, Text: sprint("%s holds %d %s after the load, at most %d before the faults", name, after, what.name, before)})
				}
			}
		}
		return v.end("no node's host was looked at both before the faults and after the load")
	}
}

var held = []struct {
	name  string
	of    func(history.Counts) int
	room  int
	grows bool
	// perSocket is what each further connection may hold besides.
	perSocket int
}{
	{"goroutines", func(c history.Counts) int { return c.Goroutines }, roomGoroutines, true, 4},
	{"descriptors", func(c history.Counts) int { return c.Descriptors }, roomDescriptors, true, 0},
	{"sockets", sockets, roomSockets, true, 0},
	{"processes", func(c history.Counts) int { return c.Processes }, roomKernel, false, 0},
	{"mounts", func(c history.Counts) int { return c.Mounts }, roomKernel, false, 0},
	{"cgroups", func(c history.Counts) int { return c.Cgroups }, roomKernel, false, 0},
}

func sockets(c history.Counts) int { return c.Sockets }

// most and least leave out what could not be seen; -1 if nothing could.
func most(list []history.Counts, of func(history.Counts) int) int {
	out := -1
	for _, c := range list {
		out = max(out, of(c))
	}
	return out
}

func least(list []history.Counts, of func(history.Counts) int) int {
	out := -1
	for _, c := range list {
		if n := of(c); n >= 0 && (out < 0 || n < out) {
			out = n
		}
	}
	return out
}

// checkSecrets: no secret lies on a disk in clear.
func checkSecrets(j *judge) func() Verdict {
	v := Verdict{
		Check: "no-secret-on-disk", Guards: []string{"P6"}, Kind: Safety, Unit: "places searched for canary secrets",
		Claim: "no canary secret was found in clear where nodes keep their data",
	}
	bytes := int64(0)
	j.onEvent = append(j.onEvent, func(e *history.Event) {
		if e.Kind != history.Scanned || e.Scan == nil {
			return
		}
		s := e.Scan
		switch {
		case len(s.Found) > 0:
			v.add(Violation{At: e.At, Node: e.Node, Text: sprint("%s holds in clear: %v", s.Where, s.Found)})
			v.Judged++
		case !s.Control:
			v.undecided("the search of %s did not find the canary that lay there on purpose", s.Where)
		case s.Bytes > 0 && s.Canaries > 0:
			v.Judged++
			bytes += s.Bytes
		}
	})
	return func() Verdict {
		if bytes > 0 {
			v.note("%d bytes searched", bytes)
		}
		return v.end("no disk was searched")
	}
}
