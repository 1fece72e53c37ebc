package check

import (
	"testing"
	"time"

	"holdfast/chaos/history"
)

// hand writes a history by hand. Its clock moves a millisecond with every
// event.
type hand struct {
	now    int64
	id     int64
	seq    int64
	events []history.Event
	run    history.Run
}

func (h *hand) add(e history.Event) *hand {
	h.now += int64(time.Millisecond)
	e.At = h.now
	h.events = append(h.events, e)
	return h
}

// pass lets time go by.
func (h *hand) pass(d time.Duration) *hand { h.now += int64(d); return h }

func (h *hand) phase(p history.Phase) *hand {
	return h.add(history.Event{Kind: history.Enter, Phase: p})
}

// open is an operation under way.
type open struct {
	h *hand
	e history.Event
}

func (h *hand) begin(e history.Event) open {
	h.id++
	e.ID, e.Kind = h.id, history.Invoke
	if e.Process == 0 {
		e.Process = 1
	}
	h.add(e)
	e.Rules = nil
	return open{h, e}
}

func (o open) end(k history.Kind, change func(*history.Event)) *hand {
	o.e.Kind = k
	if change != nil {
		change(&o.e)
	}
	return o.h.add(o.e)
}

func (o open) refused(code string) *hand {
	return o.end(history.Refused, func(e *history.Event) { e.Code = code })
}

func (o open) unknown() *hand { return o.end(history.Unknown, nil) }

// made answers a submission.
func (o open) made(task string, index uint64) *hand {
	return o.end(history.OK, func(e *history.Event) { e.Task, e.Index = task, index })
}

// shows answers a read or a cancel with tasks; the answer's index is that of
// the newest of them.
func (o open) shows(views ...history.View) *hand {
	return o.end(history.OK, func(e *history.Event) {
		e.Tasks = views
		for _, v := range views {
			e.Index = max(e.Index, v.Index)
		}
	})
}

// at answers with an index and an age.
func (o open) at(index uint64, age time.Duration) *hand {
	return o.end(history.OK, func(e *history.Event) { e.Index, e.Age = index, int64(age) })
}

func submit(key string) history.Event { return history.Event{Op: history.Submit, Key: key, Node: "n1"} }
func get(task string) history.Event   { return history.Event{Op: history.Get, Task: task, Node: "n2"} }
func stale(task string) history.Event {
	return history.Event{Op: history.Get, Task: task, Node: "n3", Stale: true}
}
func cancels(task, key string) history.Event {
	return history.Event{Op: history.Cancel, Task: task, Key: key, Node: "n1"}
}

// view is a task as "key state attempt index".
func view(task, state string, attempt int, index uint64) history.View {
	return history.View{Task: task, State: state, Attempt: attempt, Index: index}
}

func (h *hand) effect(key, token string, step history.Step) *hand {
	h.seq++
	return h.add(history.Event{Kind: history.Took, Key: key, Effect: &history.Effect{Seq: h.seq, Token: token, Step: step}})
}

func (h *hand) fault(id int64, kind string) *hand {
	return h.add(history.Event{Kind: history.Inject, ID: id, Fault: &history.Fault{Type: kind, Targets: []string{"n1"}}})
}

func (h *hand) told(k history.Kind, id int64) *hand {
	return h.add(history.Event{Kind: k, ID: id, Text: "seen"})
}

// write is a submission that is acknowledged.
func (h *hand) write(key, task string, index uint64) *hand {
	return h.begin(submit(key)).made(task, index)
}

// example is a history that a check must judge in a known way.
type example struct {
	check string
	name  string
	want  Outcome
	build func(h *hand)
}

func TestByHand(t *testing.T) {
	type seen struct{ passes, fails bool }
	known := map[string]*seen{}
	for _, list := range [][]example{clientExamples, linearExamples, effectExamples, stateExamples, faultExamples} {
		for _, x := range list {
			if known[x.check] == nil {
				known[x.check] = &seen{}
			}
			known[x.check].passes = known[x.check].passes || x.want == Held
			known[x.check].fails = known[x.check].fails || x.want == Violated
			t.Run(x.check+"/"+x.name, func(t *testing.T) {
				h := &hand{}
				x.build(h)
				got, err := Judge(&h.run, history.Slice(h.events), Options{})
				if err != nil {
					t.Fatal(err)
				}
				v := got.Verdict(x.check)
				if v == nil {
					t.Fatal("there is no such check")
				}
				if v.Outcome != x.want {
					t.Errorf("%s, want %s: %+v", v.Outcome, x.want, v)
				}
				if (v.Outcome == Violated) != (len(v.Violations) > 0) || v.Outcome != Held && v.Outcome != Violated && v.Why == "" {
					t.Errorf("the verdict does not say why: %+v", v)
				}
			})
		}
	}
	empty, err := Judge(&history.Run{}, history.Slice(nil), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range empty.Verdicts {
		if s := known[v.Check]; s == nil || !s.passes || !s.fails {
			t.Errorf("%s has no history that it passes and one that it fails", v.Check)
		}
		if v.Outcome == Held {
			t.Errorf("%s holds for a history in which nothing happened", v.Check)
		}
	}
	if empty.Code() != CodeInconclusive {
		t.Errorf("a history in which nothing happened ends with %d", empty.Code())
	}
}
