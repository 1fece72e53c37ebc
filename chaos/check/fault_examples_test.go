package check

import (
	"fmt"
	"time"

	"holdfast/chaos/history"
)

// writes acknowledges a write every 10 ms for a time.
func (h *hand) writes(d time.Duration) *hand {
	for until := h.now + int64(d); h.now < until; {
		h.pass(8 * time.Millisecond)
		h.write(fmt.Sprint("k", h.id), fmt.Sprint("t", h.id+1), uint64(h.id+1))
	}
	return h
}

// killed is a kill after which nothing is acknowledged for a time.
func killed(pause time.Duration, bounds ...history.Bound) func(*hand) {
	return func(h *hand) {
		h.run.Bounds = bounds
		h.writes(time.Second).fault(901, "kill").told(history.Bit, 901)
		h.pass(pause).writes(time.Second).told(history.Heal, 901).told(history.Healed, 901).writes(6 * time.Second)
	}
}

// healthy is a run that watches for a second after its heal.
func healthy(after func(*hand)) func(*hand) {
	return func(h *hand) {
		h.run.Limits.Healthy = time.Second
		h.phase(history.Steady).writes(100 * time.Millisecond).phase(history.Faulted)
		h.begin(submit("in-the-fault")).unknown()
		h.phase(history.Healthy)
		after(h)
		h.phase(history.Settled)
	}
}

var faultExamples = []example{
	{"bounds", "soon enough", Held, killed(300*time.Millisecond, history.Bound{Fault: "kill", P99: 500 * time.Millisecond})},
	{"bounds", "too late for the p99", Violated, killed(600*time.Millisecond, history.Bound{Fault: "kill", P99: 500 * time.Millisecond})},
	{"bounds", "too late for the longest", Violated, killed(2*time.Second, history.Bound{Fault: "*", Max: time.Second})},
	{"bounds", "another fault's bound", NotExercised, killed(2*time.Second, history.Bound{Fault: "pause", Max: time.Second})},
	{"bounds", "never again", Violated, func(h *hand) {
		h.run.Bounds = []history.Bound{{Fault: "kill", Max: time.Second}}
		h.writes(time.Second).fault(901, "kill").pass(2 * time.Second)
		h.begin(submit("nobody-answers")).unknown()
	}},
	{"bounds", "nobody asked any more", Held, func(h *hand) {
		h.run.Bounds = []history.Bound{{Fault: "kill", Max: time.Second}}
		h.writes(time.Second).fault(901, "kill").writes(100 * time.Millisecond).pass(2 * time.Second).add(history.Event{Kind: history.Note})
	}},
	{"bounds", "a healed node disturbs", Violated, func(h *hand) {
		h.run.Bounds = []history.Bound{{Fault: "kill", Max: time.Second}}
		h.writes(time.Second).fault(901, "kill").writes(time.Second).told(history.Heal, 901).writes(100 * time.Millisecond)
		h.pass(2 * time.Second).writes(10 * time.Second)
	}},
	{"bounds", "without a majority the heal counts", Held, func(h *hand) {
		h.run.Bounds = []history.Bound{{Fault: "kill", Max: time.Second}}
		h.writes(time.Second)
		h.add(history.Event{Kind: history.Inject, ID: 901, Fault: &history.Fault{Type: "kill", NoQuorum: true}})
		h.pass(30*time.Second).told(history.Heal, 901).pass(500 * time.Millisecond).writes(10 * time.Second)
	}},

	{"healthy-after-healing", "all is well", Held, healthy(func(h *hand) { h.writes(1100 * time.Millisecond) })},
	{"healthy-after-healing", "an answer says no, as it must", Held, healthy(func(h *hand) {
		h.begin(cancels("t1", "c")).refused("conflict")
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "an operation has no end", Violated, healthy(func(h *hand) {
		h.begin(submit("late")).unknown()
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "a node has no leader", Violated, healthy(func(h *hand) {
		h.begin(submit("late")).refused("unavailable")
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "a pause", Violated, healthy(func(h *hand) {
		h.writes(100 * time.Millisecond).pass(1600 * time.Millisecond).writes(100 * time.Millisecond)
	})},
	{"healthy-after-healing", "what a client gave up is its own doing", Held, healthy(func(h *hand) {
		h.begin(submit("late")).end(history.Unknown, func(e *history.Event) { e.Code = history.GivenUp })
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "one probe of a hundred is late", Held, healthy(func(h *hand) {
		h.begin(history.Event{Op: history.Probe, Key: "p"}).unknown()
		for i := range 99 {
			h.begin(history.Event{Op: history.Probe, Key: fmt.Sprint("p", i)}).made(fmt.Sprint("t9", i), 9)
		}
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "one probe of ten is late", Violated, healthy(func(h *hand) {
		h.begin(history.Event{Op: history.Probe, Key: "p"}).unknown()
		for i := range 9 {
			h.begin(history.Event{Op: history.Probe, Key: fmt.Sprint("p", i)}).made(fmt.Sprint("t9", i), 9)
		}
		h.writes(1100 * time.Millisecond)
	})},
	{"healthy-after-healing", "the last call of the load takes long", Held, healthy(func(h *hand) {
		h.writes(1100 * time.Millisecond)
		slow := h.begin(get("t1"))
		h.pass(10 * time.Second)
		slow.shows(view("t1", "expired", 0, 9))
	})},
	{"healthy-after-healing", "not watched for long", Undecided, healthy(func(h *hand) { h.writes(300 * time.Millisecond) })},

	{"every-heal-verified", "it was", Held, func(h *hand) {
		h.fault(901, "kill").told(history.Bit, 901).told(history.Heal, 901).told(history.Healed, 901)
	}},
	{"every-heal-verified", "healed, but not seen to be", Violated, func(h *hand) {
		h.fault(901, "kill").told(history.Bit, 901).told(history.Heal, 901)
	}},
	{"every-heal-verified", "never healed", Violated, func(h *hand) { h.fault(901, "kill").told(history.Bit, 901) }},

	{"every-fault-bit", "it did", Held, func(h *hand) { h.fault(901, "kill").told(history.Bit, 901) }},
	{"every-fault-bit", "one of two did", Violated, func(h *hand) {
		h.fault(901, "kill").told(history.Bit, 901).fault(902, "pause").told(history.Heal, 902)
	}},
}
