package check

import (
	"time"

	"holdfast/chaos/history"
)

// ruled submits a task with rules.
func (h *hand) ruled(r history.Rules) *hand {
	e := submit("a")
	e.Rules = &r
	return h.begin(e).made("t1", 5)
}

// ended shows the task's end.
func (h *hand) ended(state, reason string, attempt int, change func(*history.View)) *hand {
	h.pass(30 * time.Second)
	v := history.View{Task: "t1", Key: "a", State: state, Reason: reason, Attempt: attempt, Index: 90, Submitted: 1e9, Started: 10e9, Finished: 20e9}
	if change != nil {
		change(&v)
	}
	return h.begin(get("t1")).shows(v)
}

func by(token string) func(*history.View) { return func(v *history.View) { v.Token = token } }

// whole is an attempt from its beginning to its end.
func (h *hand) whole(token string) *hand {
	return h.effect("a", token, history.Begin).effect("a", token, history.Tick).effect("a", token, history.End)
}

var effectExamples = []example{
	{"no-overlap-of-attempts", "one after the other", Held, func(h *hand) {
		h.effect("a", "x", history.Begin).effect("a", "x", history.Tick).effect("a", "y", history.Begin).effect("a", "y", history.End)
	}},
	{"no-overlap-of-attempts", "a zombie", Violated, func(h *hand) {
		h.effect("a", "x", history.Begin).effect("a", "y", history.Begin).effect("a", "x", history.Tick)
	}},
	{"no-overlap-of-attempts", "a zombie of the one before the last", Violated, func(h *hand) {
		h.effect("a", "x", history.Begin).effect("a", "y", history.Begin).effect("a", "z", history.Begin).effect("a", "y", history.End)
	}},
	{"no-overlap-of-attempts", "two tasks may run at once", NotExercised, func(h *hand) {
		h.effect("a", "x", history.Begin).effect("b", "y", history.Begin).effect("a", "x", history.Tick)
	}},
	{"no-overlap-of-attempts", "a ledger without order", Undecided, func(h *hand) {
		h.effect("a", "x", history.Begin)
		h.seq = 0
		h.effect("a", "y", history.Begin)
	}},

	{"no-effect-of-superseded-attempt", "the last one's result counts", Held, func(h *hand) {
		h.effect("a", "x", history.Begin).whole("y").ended("succeeded", "exit", 2, by("y"))
	}},
	{"no-effect-of-superseded-attempt", "the first one's result counts", Violated, func(h *hand) {
		h.whole("x").effect("a", "y", history.Begin).ended("succeeded", "exit", 2, by("x"))
	}},
	{"no-effect-of-superseded-attempt", "an effect after the result that counts", Violated, func(h *hand) {
		h.whole("x").effect("a", "x", history.Tick).ended("succeeded", "exit", 1, by("x"))
	}},
	{"no-effect-of-superseded-attempt", "a result of nobody", Violated, func(h *hand) {
		h.whole("x").ended("succeeded", "exit", 1, by("w"))
	}},
	{"no-effect-of-superseded-attempt", "results without names", NotExercised, func(h *hand) {
		h.whole("x").ended("succeeded", "exit", 1, nil)
	}},

	{"journals-ledger-and-state-agree", "all tell the same", Held, func(h *hand) {
		h.ruled(history.Rules{Effects: true}).whole("x").ended("succeeded", "exit", 1, by("x"))
		h.add(history.Event{Kind: history.Journal, Node: "n1", Task: "t1", Attempt: 1})
	}},
	{"journals-ledger-and-state-agree", "more attempts in the ledger than in the state", Violated, func(h *hand) {
		h.ruled(history.Rules{Effects: true}).whole("x").whole("y").ended("succeeded", "exit", 1, by("y"))
	}},
	{"journals-ledger-and-state-agree", "expired, and it ran", Violated, func(h *hand) {
		h.ruled(history.Rules{Effects: true}).effect("a", "x", history.Begin).ended("expired", "queue_timeout", 0, nil)
	}},
	{"journals-ledger-and-state-agree", "a success without an effect", Violated, func(h *hand) {
		h.ruled(history.Rules{Effects: true}).effect("a", "x", history.Begin).ended("succeeded", "exit", 1, nil)
	}},
	{"journals-ledger-and-state-agree", "effects of a task that nobody submitted", Violated, func(h *hand) {
		h.whole("x").pass(2 * time.Second).add(history.Event{Kind: history.Note})
	}},
	{"journals-ledger-and-state-agree", "the tester was killed before it wrote the submission down", NotExercised, func(h *hand) { h.whole("x") }},
	{"journals-ledger-and-state-agree", "an attempt on two nodes", Violated, func(h *hand) {
		h.ruled(history.Rules{}).ended("succeeded", "exit", 1, func(v *history.View) { v.Node = "n2" })
		h.add(history.Event{Kind: history.Journal, Node: "n1", Task: "t1", Attempt: 1})
	}},
	{"journals-ledger-and-state-agree", "a task without effects", NotExercised, func(h *hand) {
		h.ruled(history.Rules{}).ended("succeeded", "exit", 1, nil)
	}},

	{"retry-and-deadline-rules", "it used up its retries", Held, func(h *hand) {
		h.ruled(history.Rules{RetryLimit: 2, Fails: 9}).ended("failed", "exit", 3, nil)
	}},
	{"retry-and-deadline-rules", "it gave up early", Violated, func(h *hand) {
		h.ruled(history.Rules{RetryLimit: 2, Fails: 9}).ended("failed", "exit", 2, nil)
	}},
	{"retry-and-deadline-rules", "it succeeded before it could", Violated, func(h *hand) {
		h.ruled(history.Rules{RetryLimit: 2, Fails: 2}).ended("succeeded", "exit", 2, nil)
	}},
	{"retry-and-deadline-rules", "it was tried too often", Violated, func(h *hand) {
		h.ruled(history.Rules{RetryLimit: 2, Fails: 3}).ended("succeeded", "exit", 4, nil)
	}},
	{"retry-and-deadline-rules", "more attempts than can be", Violated, func(h *hand) {
		h.ruled(history.Rules{}).ended("succeeded", "exit", 102, nil)
	}},
	{"retry-and-deadline-rules", "lost is not failed", Held, func(h *hand) {
		h.ruled(history.Rules{Fails: 0}).ended("succeeded", "exit", 7, nil)
	}},
	{"retry-and-deadline-rules", "lost, and not retried", Violated, func(h *hand) {
		h.ruled(history.Rules{}).ended("failed", "lost", 1, nil)
	}},
	{"retry-and-deadline-rules", "lost, and it asked for that", Held, func(h *hand) {
		h.ruled(history.Rules{OnLost: "fail"}).ended("failed", "lost", 1, nil)
	}},
	{"retry-and-deadline-rules", "expired in time", Held, func(h *hand) {
		h.ruled(history.Rules{QueueTimeout: int64(19 * time.Second)}).ended("expired", "queue_timeout", 0, nil)
	}},
	{"retry-and-deadline-rules", "expired early", Violated, func(h *hand) {
		h.ruled(history.Rules{QueueTimeout: int64(20 * time.Second)}).ended("expired", "queue_timeout", 0, nil)
	}},
	{"retry-and-deadline-rules", "expired without a timeout", Violated, func(h *hand) {
		h.ruled(history.Rules{}).ended("expired", "queue_timeout", 0, nil)
	}},
	{"retry-and-deadline-rules", "ran too long", Held, func(h *hand) {
		h.ruled(history.Rules{RunTimeout: int64(10 * time.Second)}).ended("failed", "timeout", 1, nil)
	}},
	{"retry-and-deadline-rules", "ended before its time", Violated, func(h *hand) {
		h.ruled(history.Rules{RunTimeout: int64(11 * time.Second)}).ended("failed", "timeout", 1, nil)
	}},
	{"retry-and-deadline-rules", "over too soon by every clock", Violated, func(h *hand) {
		h.fault(901, "clock-jump").ruled(history.Rules{QueueTimeout: int64(time.Minute)}).ended("expired", "queue_timeout", 0, nil)
	}},
	{"retry-and-deadline-rules", "over too soon by a clock that was moved", Held, func(h *hand) {
		h.fault(901, "clock-jump").ruled(history.Rules{QueueTimeout: int64(32 * time.Second)}).ended("expired", "queue_timeout", 0, nil)
	}},
	{"retry-and-deadline-rules", "retried before it was due", Violated, func(h *hand) {
		h.ruled(history.Rules{RetryLimit: 1})
		h.begin(get("t1")).shows(history.View{Task: "t1", State: "queued", Attempt: 1, Index: 7, RetryAt: 10e9})
		h.begin(get("t1")).shows(history.View{Task: "t1", State: "running", Attempt: 2, Index: 9, Started: 9e9})
	}},
	{"retry-and-deadline-rules", "no end was seen", NotExercised, func(h *hand) { h.ruled(history.Rules{}) }},

	{"every-task-ends", "it has", Held, func(h *hand) {
		h.ruled(history.Rules{}).phase(history.Settled).ended("succeeded", "exit", 1, nil)
	}},
	{"every-task-ends", "it is stuck", Violated, func(h *hand) {
		h.ruled(history.Rules{}).phase(history.Settled)
		h.begin(get("t1")).shows(view("t1", "running", 1, 8))
	}},
	{"every-task-ends", "the load was never over", NotExercised, func(h *hand) { h.ruled(history.Rules{}).ended("succeeded", "exit", 1, nil) }},
}
