package check

import "holdfast/chaos/history"

var linearExamples = []example{
	{"linearizable", "a whole life", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "queued", 0, 5))
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		h.begin(get("t1")).shows(view("t1", "queued", 1, 8)) // it failed, or was lost
		h.begin(get("t1")).shows(view("t1", "running", 3, 12))
		h.begin(get("t1")).shows(view("t1", "succeeded", 4, 20))
		h.begin(get("t1")).shows(view("t1", "succeeded", 4, 20))
	}},
	{"linearizable", "hidden expiry", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "expired", 0, 9))
	}},
	{"linearizable", "a strong read misses what was acknowledged", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).refused("not_found")
	}},
	{"linearizable", "a strong read goes back", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		e := get("t1")
		e.Process, e.Node = 2, "n3"
		h.begin(e).shows(view("t1", "queued", 0, 5))
	}},
	{"linearizable", "two reads at once may see different states", Held, func(h *hand) {
		h.write("a", "t1", 5)
		e := get("t1")
		e.Process = 2
		slow := h.begin(e)
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		slow.shows(view("t1", "queued", 0, 5))
	}},
	{"linearizable", "a stale read may go back", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		h.begin(stale("t1")).shows(view("t1", "queued", 0, 5))
	}},
	{"linearizable", "a cancel, and sent again", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).shows(view("t1", "cancelled", 0, 7))
		h.begin(cancels("t1", "c")).shows(view("t1", "cancelled", 0, 7))
		h.begin(cancels("t1", "d")).refused("conflict")
		h.begin(get("t1")).shows(view("t1", "cancelled", 0, 7))
	}},
	{"linearizable", "a cancel that was acknowledged had no effect", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).shows(view("t1", "cancelled", 1, 7))
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
	}},
	{"linearizable", "two cancels that both did it", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).shows(view("t1", "cancelled", 0, 7))
		h.begin(cancels("t1", "d")).shows(view("t1", "cancelled", 0, 7))
	}},
	{"linearizable", "cancelled by nobody", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "cancelled", 0, 7))
	}},
	{"linearizable", "an unknown cancel took effect late", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).unknown()
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		h.begin(get("t1")).shows(view("t1", "cancelled", 1, 7))
	}},
	{"linearizable", "an unknown cancel had no effect", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).unknown()
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 7))
	}},
	{"linearizable", "a refused cancel took effect", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).refused("overloaded")
		h.begin(get("t1")).shows(view("t1", "cancelled", 0, 7))
	}},
	{"linearizable", "a conflict with a task that still runs", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).refused("conflict")
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
	}},
	{"linearizable", "a conflict with a task that had ended by itself", Held, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(cancels("t1", "c")).refused("conflict")
		h.begin(get("t1")).shows(view("t1", "failed", 1, 6))
	}},
	{"linearizable", "an unknown submission that a list shows", Held, func(h *hand) {
		h.begin(submit("a")).unknown()
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5})
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
	}},
	{"linearizable", "shown before it was sent", Violated, func(h *hand) {
		listed(h, history.Cover{From: 1}, history.View{Task: "t1", Key: "a", State: "queued", Index: 5})
		h.write("a", "t1", 5)
	}},
	{"linearizable", "a task that was there before", Held, func(h *hand) {
		h.begin(get("t1")).shows(view("t1", "running", 3, 6))
		h.begin(get("t1")).shows(view("t1", "succeeded", 3, 9))
	}},
	{"linearizable", "a task that was there before goes back", Violated, func(h *hand) {
		h.begin(get("t1")).shows(view("t1", "running", 3, 6))
		h.begin(get("t1")).shows(view("t1", "running", 2, 5))
	}},
	{"linearizable", "read by its ID before its request is known", Held, func(h *hand) {
		h.begin(submit("a")).unknown()
		h.begin(get("t1")).shows(view("t1", "running", 1, 6))
		h.write("a", "t1", 7)
	}},
	{"linearizable", "one end only", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 7))
		h.begin(get("t1")).shows(view("t1", "failed", 1, 7))
	}},
	{"linearizable", "the same attempt twice", Violated, func(h *hand) {
		h.write("a", "t1", 5)
		h.begin(get("t1")).shows(view("t1", "queued", 1, 7))
		h.begin(get("t1")).shows(view("t1", "running", 1, 9))
	}},
	{"linearizable", "forgotten after its end, among more than are kept", Held, func(h *hand) {
		h.run.Limits.FinishedKept = 1
		h.write("a", "t1", 5).write("b", "t2", 6)
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
		h.begin(get("t1")).refused("not_found")
	}},
	{"linearizable", "back from the forgotten", Violated, func(h *hand) {
		h.run.Limits.FinishedKept = 1
		h.write("a", "t1", 5).write("b", "t2", 6)
		h.begin(get("t1")).refused("not_found")
		h.begin(get("t1")).shows(view("t1", "succeeded", 1, 9))
	}},
	{"linearizable", "one operation", NotExercised, func(h *hand) { h.write("a", "t1", 5) }},
}
