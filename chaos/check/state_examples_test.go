package check

import "holdfast/chaos/history"

func (h *hand) says(node string, index uint64, s history.State) *hand {
	return h.add(history.Event{Kind: history.Sample, Node: node, Index: index, State: &s})
}

func (h *hand) holds(node string, c history.Counts) *hand {
	return h.add(history.Event{Kind: history.Sample, Node: node, Counts: &c})
}

func (h *hand) searched(s history.Scan) *hand {
	return h.add(history.Event{Kind: history.Scanned, Node: "n1", Scan: &s})
}

var calm = history.Counts{Goroutines: 100, Descriptors: 50, Processes: 3, Mounts: 10, Cgroups: 4, Memory: 1 << 20}

// leaking is a run at whose end a node holds more.
func leaking(change func(*history.Counts)) func(*hand) {
	return func(h *hand) {
		after := calm
		change(&after)
		h.phase(history.Steady).holds("n1", calm).phase(history.Faulted).holds("n1", history.Counts{Goroutines: 9000})
		h.phase(history.Settled).holds("n1", after)
	}
}

var stateExamples = []example{
	{"state-hashes-agree", "they do", Held, func(h *hand) {
		h.says("n1", 5, history.State{Hash: "aa"}).says("n2", 5, history.State{Hash: "aa"}).says("n3", 6, history.State{Hash: "bb"})
	}},
	{"state-hashes-agree", "they do not", Violated, func(h *hand) {
		h.says("n1", 5, history.State{Hash: "aa"}).says("n2", 5, history.State{Hash: "ab"})
	}},
	{"state-hashes-agree", "a node differs from itself after a restart", Violated, func(h *hand) {
		h.says("n1", 5, history.State{Hash: "aa"}).says("n1", 5, history.State{Hash: "ab"})
	}},
	{"state-hashes-agree", "never at one index", NotExercised, func(h *hand) {
		h.says("n1", 5, history.State{Hash: "aa"}).says("n2", 6, history.State{Hash: "ab"})
	}},

	{"one-leader-per-term", "one after the other", Held, func(h *hand) {
		h.says("n1", 5, history.State{Role: "leader", Term: 2}).says("n2", 5, history.State{Role: "leader", Term: 3})
	}},
	{"one-leader-per-term", "two at once", Violated, func(h *hand) {
		h.says("n1", 5, history.State{Role: "leader", Term: 2}).says("n2", 5, history.State{Role: "leader", Term: 2})
	}},
	{"one-leader-per-term", "what others say of it does not count", NotExercised, func(h *hand) {
		h.says("n1", 5, history.State{Role: "voter", Leader: "n2", Term: 2}).says("n3", 5, history.State{Role: "voter", Leader: "n1", Term: 2})
	}},

	{"no-leaks", "as before", Held, leaking(func(*history.Counts) {})},
	{"no-leaks", "a few connections more", Held, leaking(func(c *history.Counts) { c.Goroutines += 50; c.Descriptors += 20 })},
	{"no-leaks", "goroutines of those connections", Held, leaking(func(c *history.Counts) { c.Sockets += 200; c.Goroutines += 700 })},
	{"no-leaks", "goroutines", Violated, leaking(func(c *history.Counts) { c.Goroutines = 400 })},
	{"no-leaks", "descriptors", Violated, leaking(func(c *history.Counts) { c.Descriptors = 400 })},
	{"no-leaks", "connections of clients that were cut off", Held, leaking(func(c *history.Counts) { c.Sockets += 500 })},
	{"no-leaks", "sockets", Violated, leaking(func(c *history.Counts) { c.Sockets += 1500 })},
	{"no-leaks", "processes", Violated, leaking(func(c *history.Counts) { c.Processes += 5 })},
	{"no-leaks", "mounts", Violated, leaking(func(c *history.Counts) { c.Mounts += 3 })},
	{"no-leaks", "cgroups", Violated, leaking(func(c *history.Counts) { c.Cgroups += 3 })},
	{"no-leaks", "what could not be seen is no leak", Held, leaking(func(c *history.Counts) { c.Mounts, c.Cgroups = -1, -1 })},
	{"no-leaks", "no sample after the load", NotExercised, func(h *hand) { h.phase(history.Steady).holds("n1", calm) }},

	{"no-secret-on-disk", "none", Held, func(h *hand) {
		h.searched(history.Scan{Where: "disk", Bytes: 1 << 20, Canaries: 3, Control: true})
	}},
	{"no-secret-on-disk", "one", Violated, func(h *hand) {
		h.searched(history.Scan{Where: "disk", Bytes: 1 << 20, Canaries: 3, Control: true, Found: []string{"token at 4096"}})
	}},
	{"no-secret-on-disk", "the search finds nothing at all", Undecided, func(h *hand) {
		h.searched(history.Scan{Where: "disk", Bytes: 1 << 20, Canaries: 3})
	}},
	{"no-secret-on-disk", "nothing was searched", NotExercised, func(h *hand) {
		h.searched(history.Scan{Where: "disk", Control: true, Canaries: 3})
	}},
}
