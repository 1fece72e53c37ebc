package check

import (
	"fmt"
	"time"

	"holdfast/chaos/history"
)

// listed answers a strong list of all tasks.
func listed(h *hand, cover history.Cover, views ...history.View) {
	h.begin(history.Event{Op: history.List, Node: "n2"}).end(history.OK, func(e *history.Event) { e.Tasks, e.Cover = views, &cover })
}

var clientExamples = []example{
	{"acknowledged-never-lost", "a get knows it", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "queued", 0, 5))
	}},
	{"acknowledged-never-lost", "a list knows it", Held, func(h *hand) {
		h.write("a", "t1", 5)
		listed(h, history.Cover{From: 1}, view("t1", "queued", 0, 5))
	}},
	{"acknowledged-never-lost", "a get does not know it", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).refused("not_found")
	}},
	{"acknowledged-never-lost", "a list that covers it does not show it", Violated, func(h *hand) {
		h.write("a", "t1", 5).write("b", "t2", 6)
		listed(h, history.Cover{From: 1, To: 2}, view("t2", "queued", 0, 6))
	}},
	{"acknowledged-never-lost", "a list of other tasks does not show it", Undecided, func(h *hand) {
		h.write("a", "t1", 5).write("b", "t7", 6)
		h.begin(get("t7")).shows(view("t7", "queued", 0, 6))
		listed(h, history.Cover{From: 2, To: 9}, view("t7", "queued", 0, 6))
	}},
	{"acknowledged-never-lost", "the read began before the acknowledgement", Undecided, func(h *hand) {
		w := h.begin(submit("a"))
		r := h.begin(history.Event{Op: history.List, Node: "n2", Process: 2})
		w.made("t1", 5)
		r.end(history.OK, func(e *history.Event) { e.Cover = &history.Cover{From: 1} })
	}},
	{"acknowledged-never-lost", "nobody looked", Undecided, func(h *hand) { h.write("a", "t1", 5) }},
	{"acknowledged-never-lost", "only a stale read looked", Undecided, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(stale("t1")).refused("not_found")
	}},
	{"acknowledged-never-lost", "forgotten long after its end", Undecided, func(h *hand) {
		h.run.Limits.FinishedKept = 3
		for i := range 5 {
			h.write(fmt.Sprint("k", i), fmt.Sprint("t", i+1), uint64(5+i))
		}
		h.begin(get("t1")).refused("not_found")
	}},
	{"acknowledged-never-lost", "too young to be forgotten", Violated, func(h *hand) {
		h.run.Limits.FinishedKept = 3
		h.says("n1", 5, history.State{Queued: 1})
		for i := range 5 {
			h.write(fmt.Sprint("k", i), fmt.Sprint("t", i+1), uint64(5+i))
		}
		h.begin(get("t4")).refused("not_found")
	}},
	{"acknowledged-never-lost", "an unknown submission is not there", NotExercised, func(h *hand) {
		h.begin(submit("a")).unknown()
		listed(h, history.Cover{From: 1})
	}},

	{"refused-has-no-effect", "it is nowhere", Held, func(h *hand) {
		h.begin(submit("a")).refused("queue_full")
		listed(h, history.Cover{From: 1})
	}},
	{"refused-has-no-effect", "a list shows it", Violated, func(h *hand) {
		h.begin(submit("a")).refused("queue_full")
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5})
	}},
	{"refused-has-no-effect", "it is in the ledger", Violated, func(h *hand) {
		h.begin(submit("a")).refused("queue_full")
		h.effect("a", "x", history.Begin)
	}},
	{"refused-has-no-effect", "sent again, and then it was taken", NotExercised, func(h *hand) {
		h.begin(submit("a")).refused("queue_full")
		h.write("a", "t1", 5)
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5})
	}},
	{"refused-has-no-effect", "unknown is not refused", NotExercised, func(h *hand) {
		h.begin(submit("a")).unknown()
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5})
	}},

	{"request-takes-effect-once", "sent twice, one task", Held, func(h *hand) { h.write("a", "t1", 5).write("a", "t1", 6) }},
	{"request-takes-effect-once", "sent twice, two tasks", Violated, func(h *hand) { h.write("a", "t1", 5).write("a", "t2", 6) }},
	{"request-takes-effect-once", "the lost answer made a second one", Violated, func(h *hand) {
		h.begin(submit("a")).unknown()
		h.write("a", "t2", 6)
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5}, history.View{Task: "t2", Key: "a", State: "queued", Index: 6})
	}},
	{"request-takes-effect-once", "the key was forgotten long ago", NotExercised, func(h *hand) {
		h.run.Limits.Remembered = 2
		h.write("a", "t1", 5).write("b", "t2", 6).write("c", "t3", 7).write("d", "t4", 8).write("a", "t5", 9)
	}},
	{"request-takes-effect-once", "nothing was sent twice", NotExercised, func(h *hand) { h.write("a", "t1", 5) }},

	{"index-never-back", "it goes forward", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).at(5, 0)
		h.begin(stale("t1")).at(7, 0)
	}},
	{"index-never-back", "a stale read goes back", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(stale("t1")).at(4, 0)
	}},
	{"index-never-back", "another client's read may be older", NotExercised, func(h *hand) {
		h.write("a", "t1", 5)
		e := stale("t1")
		e.Process = 2
		h.begin(e).at(4, 0)
	}},
	{"index-never-back", "the read began before the write was answered", NotExercised, func(h *hand) {
		w := h.begin(submit("a"))
		r := h.begin(stale("t1"))
		w.made("t1", 5)
		r.at(4, 0)
	}},

	{"stale-within-age", "old, and it says so", Held, func(h *hand) {
		h.write("a", "t1", 5).pass(time.Second).write("b", "t2", 6)
		h.begin(stale("t1")).at(5, time.Second)
	}},
	{"stale-within-age", "older than it says", Violated, func(h *hand) {
		h.write("a", "t1", 5).pass(time.Second).write("b", "t2", 6).pass(time.Second)
		h.begin(stale("t1")).at(5, 100*time.Millisecond)
	}},
	{"stale-within-age", "older than was asked for", Violated, func(h *hand) {
		e := stale("t1")
		e.MaxAge = int64(time.Second)
		h.begin(e).at(5, 2*time.Second)
	}},
	{"stale-within-age", "a strong read has no age", NotExercised, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).at(5, 0)
	}},

	{"one-terminal-state", "the same end everywhere", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(stale("t1")).shows(view("t1", "running", 1, 6))
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
		h.begin(stale("t1")).shows(view("t1", "succeeded", 1, 9))
		h.begin(stale("t1")).shows(view("t1", "queued", 0, 5)) // an old copy
	}},
	{"one-terminal-state", "two ends", Violated, func(h *hand) {
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
		h.begin(stale("t1")).shows(view("t1", "failed", 1, 9))
	}},
	{"one-terminal-state", "another attempt's result", Violated, func(h *hand) {
		h.begin(get("t1")).shows(history.View{Task: "t1", State: "succeeded", Attempt: 2, Index: 9, Token: "x"})
		h.begin(get("t1")).shows(history.View{Task: "t1", State: "succeeded", Attempt: 2, Index: 9, Token: "y"})
	}},
	{"one-terminal-state", "alive again", Violated, func(h *hand) {
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
		h.begin(stale("t1")).shows(view("t1", "running", 2, 11))
	}},
	{"one-terminal-state", "alive again, seen first", Violated, func(h *hand) {
		h.begin(get("t1")).shows(view("t1", "running", 2, 11))
		h.begin(stale("t1")).shows(view("t1", "succeeded", 1, 9))
	}},

	{"one-life-per-task", "forward", Held, func(h *hand) {
		h.begin(stale("t1")).shows(view("t1", "running", 2, 9))
		h.begin(stale("t1")).shows(view("t1", "queued", 1, 7))
		h.begin(stale("t1")).shows(view("t1", "running", 1, 6))
	}},
	{"one-life-per-task", "two states at one index", Violated, func(h *hand) {
		h.begin(stale("t1")).shows(view("t1", "running", 1, 6))
		h.begin(stale("t1")).shows(view("t1", "running", 2, 6))
	}},
	{"one-life-per-task", "an attempt number comes again", Violated, func(h *hand) {
		h.begin(stale("t1")).shows(view("t1", "running", 2, 6))
		h.begin(stale("t1")).shows(view("t1", "running", 1, 8))
	}},

	{"enough-operations", "few", Violated, func(h *hand) { h.write("a", "t1", 5) }},
	{"enough-operations", "as many as the run wants", Held, func(h *hand) {
		h.run.Limits.Operations = 2
		h.write("a", "t1", 5).write("b", "t2", 6)
	}},
}
