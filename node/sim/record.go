package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/chaos/history"
	"holdfast/fsm"
)

// recorder keeps the run's history in the form of every chaos run, so that the
// same checkers judge it.
type recorder struct {
	w *World

	mu      sync.Mutex
	events  []history.Event // guarded by mu
	last    int64           // guarded by mu: At of the last event
	ids     int64           // guarded by mu
	effects int64           // guarded by mu
}

// add appends an event, at a time of its own: many things happen in the same
// simulated moment, and their order counts.
func (r *recorder) add(e history.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(int64(time.Since(r.w.began)), r.last+1)
	e.At = r.last
	if e.Effect != nil {
		r.effects++
		e.Effect.Seq = r.effects
	}
	r.events = append(r.events, e)
}

// invoke begins operations that share one request, and returns what ends them.
func (r *recorder) invoke(ops ...history.Event) (end func(kind history.Kind, code string, index uint64, tasks []history.View)) {
	for i := range ops {
		r.mu.Lock()
		r.ids++
		ops[i].ID = r.ids
		r.mu.Unlock()
		ops[i].Kind = history.Invoke
		r.add(ops[i])
	}
	return func(kind history.Kind, code string, index uint64, tasks []history.View) {
		for i, e := range ops {
			e.Kind, e.Code, e.Index, e.Rules = kind, code, index, nil
			switch {
			case kind != history.OK:
			case e.Op == history.Submit:
				if i < len(tasks) {
					e.Task = tasks[i].Task
				}
			default:
				e.Tasks = tasks
			}
			r.add(e)
		}
	}
}

// phase says that a part of the run begins.
func (r *recorder) phase(p history.Phase) { r.add(history.Event{Kind: history.Enter, Phase: p}) }

// effect notes what a sandbox did outside of the cluster.
func (r *recorder) effect(key, token string, step history.Step) {
	r.add(history.Event{Kind: history.Took, Key: key, Effect: &history.Effect{Token: token, Step: step}})
}

func (r *recorder) all() []history.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// viewOf is a task as a client sees it.
func viewOf(v *fsm.TaskView) history.View {
	out := history.View{Task: v.ID.String(), State: v.State.String(), Attempt: int(v.Attempt), Node: string(v.Node), Index: v.Index,
		Submitted: v.SubmittedAt, Started: v.StartedAt, Finished: v.FinishedAt, RetryAt: v.RetryAt}
	var spec fsm.Spec
	if fsm.Unmarshal(v.SpecBytes, &spec) == nil {
		out.Key = spec.Name
	}
	if v.State.Terminal() {
		out.Reason = v.EndReason.String()
	}
	// Of any other end the result is an earlier attempt's, and does not count.
	if v.Result != nil && v.EndReason == fsm.EndExit {
		out.Token = strings.TrimSuffix(string(v.Result.Tail), "\n")
	}
	return out
}

func rulesOf(s fsm.Shape) *history.Rules {
	r := &history.Rules{RetryLimit: int(s.RetryLimit), Backoff: int64(s.RetryBackoff), QueueTimeout: int64(s.QueueTimeout), RunTimeout: int64(s.RunTimeout), OnLost: "retry", Effects: true}
	if s.OnLost == fsm.OnLostFail {
		r.OnLost = "fail"
	}
	return r
}

// submissions are the operations of one submission.
func submissions(process int, node string, names []string, shapes []fsm.Shape) []history.Event {
	ops := make([]history.Event, len(names))
	for i, name := range names {
		ops[i] = history.Event{Op: history.Submit, Process: process, Node: node, Key: name, Rules: rulesOf(shapes[i])}
	}
	return ops
}

// given are the tasks that an answer names.
func given(r fsm.Result) (tasks []history.View) {
	for i := range r.Count {
		tasks = append(tasks, history.View{Task: (r.First + fsm.TaskID(i)).String()})
	}
	return tasks
}

// listAll reads every task through every member, when all is over.
func (w *World) listAll() {
	for i, id := range w.members("") {
		p := w.running(id)
		if p == nil {
			continue
		}
		for after := fsm.TaskID(0); ; {
			end := w.history.invoke(history.Event{Op: history.List, Process: -1 - i, Node: id, Cover: &history.Cover{From: uint64(after) + 1}})
			index := p.group.AppliedIndex()
			page := p.state.List(fsm.Filter{After: after})
			var views []history.View
			for _, v := range page {
				views = append(views, viewOf(v))
				after = v.ID
			}
			end(history.OK, "", index, views)
			if len(page) == 0 {
				break
			}
		}
	}
}

// History is the description of the run that goes with its events.
func (c Config) History() *history.Run {
	r := &history.Run{Scenario: "simulation", Seed: c.Seed, Tier: "T0", Command: fmt.Sprintf("holdfast chaos sim --seed %d --span %v", c.Seed, c.Span)}
	for i := range c.Nodes {
		r.Nodes = append(r.Nodes, fmt.Sprintf("n%d", i+1))
	}
	return r
}

// clockMoved tells the checkers that the nodes' clocks are not to be trusted.
func (w *World) clockMoved() {
	w.history.mu.Lock()
	w.history.ids++
	id := w.history.ids
	w.history.mu.Unlock()
	for _, kind := range []history.Kind{history.Inject, history.Bit, history.Heal, history.Healed} {
		w.history.add(history.Event{Kind: kind, ID: id, Fault: &history.Fault{Type: "clock-jump"}})
	}
}
