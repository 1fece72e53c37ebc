package check

import (
	"fmt"
	"math/rand/v2"

	"holdfast/chaos/history"
)

// world is a correct cluster in a few lines, whose clients do many things at
// once: every operation takes effect at some moment between its beginning and
// its end, and tasks move by themselves in between. With a bug it does one
// thing wrong.
type world struct {
	rng     *rand.Rand
	bug     string
	h       hand
	index   uint64
	tasks   []*wtask
	byKey   map[string]*wtask
	cancels map[string]bool // keys of cancels that took effect
	clients []*wclient
}

type wtask struct {
	id, key string
	views   []history.View // its states, oldest first
	gone    bool
}

func (t *wtask) now() *history.View { return &t.views[len(t.views)-1] }

type wclient struct {
	process int
	op      *open
	done    bool // it took effect
	view    *history.View
	task    *wtask
	code    string // of a definite refusal
	index   uint64
	floor   uint64 // highest index that it was told
}

func newWorld(seed uint64, bug string) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), bug: bug, index: 10, byKey: map[string]*wtask{}, cancels: map[string]bool{}}
	for i := range 5 {
		w.clients = append(w.clients, &wclient{process: i + 1})
	}
	return w
}

// chance is one in n.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

func (w *world) run(steps int) *hand {
	for range steps {
		c := w.clients[w.rng.IntN(len(w.clients))]
		switch {
		case w.chance(4):
			w.move()
		case c.op == nil:
			w.begin(c)
		case !c.done && w.chance(2):
			w.apply(c)
		default:
			w.end(c)
		}
	}
	for _, c := range w.clients {
		if c.op != nil {
			w.end(c)
		}
	}
	w.sweep()
	return &w.h
}

// change gives a task a new state.
func (w *world) change(t *wtask, state string, attempt int) {
	w.index++
	v := *t.now()
	v.State, v.Attempt, v.Index = state, attempt, w.index
	t.views = append(t.views, v)
}

// move is what the cluster does by itself.
func (w *world) move() {
	if len(w.tasks) == 0 {
		return
	}
	t := w.tasks[w.rng.IntN(len(w.tasks))]
	v := t.now()
	switch {
	case v.Terminal():
		if w.bug == "a task lives again" && w.chance(4) {
			w.change(t, "queued", v.Attempt)
		}
		if w.bug == "a task is lost" && w.chance(8) {
			t.gone = true
		}
	case v.State == "queued" && w.chance(8):
		w.change(t, "expired", v.Attempt)
	case v.State == "queued":
		w.change(t, "running", v.Attempt+1)
	default:
		w.change(t, []string{"queued", "succeeded", "failed"}[w.rng.IntN(3)], v.Attempt)
	}
}

func (w *world) begin(c *wclient) {
	e := history.Event{Process: c.process, Node: fmt.Sprint("n", 1+w.rng.IntN(3))}
	what := w.rng.IntN(10)
	if len(w.tasks) == 0 {
		what = 0
	}
	switch {
	case what < 2:
		e.Op, e.Key = history.Submit, fmt.Sprint("k", w.h.id)
	case what == 2: // again, after its answer or without it
		e.Op, e.Key = history.Submit, w.tasks[w.rng.IntN(len(w.tasks))].key
	case what < 4:
		e.Op, e.Task, e.Key = history.Cancel, w.tasks[w.rng.IntN(len(w.tasks))].id, fmt.Sprint("c", w.h.id)
	case what < 8:
		e.Op, e.Task = history.Get, w.tasks[w.rng.IntN(len(w.tasks))].id
	default:
		e.Op, e.Task, e.Stale = history.Get, w.tasks[w.rng.IntN(len(w.tasks))].id, true
	}
	o := w.h.begin(e)
	*c = wclient{process: c.process, op: &o, floor: c.floor}
}

// apply is the moment at which an operation takes effect.
func (w *world) apply(c *wclient) {
	c.done = true
	e := &c.op.e
	switch e.Op {
	case history.Submit:
		c.task = w.byKey[e.Key]
		if c.task == nil || w.bug == "a request makes two tasks" && w.chance(2) {
			w.index++
			c.task = &wtask{id: fmt.Sprint("t", len(w.tasks)+1), key: e.Key}
			c.task.views = []history.View{{Task: c.task.id, Key: e.Key, State: "queued", Index: w.index}}
			w.tasks = append(w.tasks, c.task)
			w.byKey[e.Key] = c.task
		}
	case history.Cancel:
		t := w.find(e.Task)
		switch {
		case t.gone:
			c.code = "not_found"
		case t.now().Terminal() && w.bug != "a cancel of what has ended":
			c.code = "conflict"
		case w.bug == "a cancel has no effect":
			v := *t.now()
			v.State, v.Index = "cancelled", w.index+1
			c.view = &v
		default:
			w.change(t, "cancelled", t.now().Attempt)
			c.view = t.now()
		}
	default:
		w.read(c, w.find(e.Task))
	}
	if !e.Stale {
		c.index = w.index
	}
}

func (w *world) read(c *wclient, t *wtask) {
	if t.gone {
		c.code = "not_found"
		return
	}
	at := len(t.views) - 1
	switch {
	case c.op.e.Stale: // any state that its client cannot know to be too old
		at = w.rng.IntN(len(t.views))
		c.index = max(c.floor, t.views[at].Index)
		for at+1 < len(t.views) && t.views[at+1].Index <= c.index {
			at++
		}
		if w.bug == "a client goes back" && c.floor > 11 {
			c.index = 11
		}
	case w.bug == "a strong read is stale":
		at = w.rng.IntN(len(t.views))
	}
	c.view = &t.views[at]
}

func (w *world) find(id string) *wtask { return w.tasks[number(id)-1] }

// end answers, or loses the answer.
func (w *world) end(c *wclient) {
	defer func() { c.op = nil }()
	e := &c.op.e
	lie := w.bug == "a refused write takes effect" && c.done && e.Op == history.Submit && w.chance(2)
	switch {
	case lie || !c.done && w.chance(2):
		c.op.refused("overloaded")
		return
	case !c.done || w.chance(6):
		c.op.unknown()
		return
	case c.code != "":
		c.op.refused(c.code)
		return
	}
	c.op.end(history.OK, func(e *history.Event) {
		e.Index = c.index
		if c.task != nil {
			e.Task = c.task.id
		}
		if c.view != nil {
			e.Tasks = []history.View{*c.view}
		}
		if e.Stale {
			// As old as may be: the age has a check, and examples, of its own.
			e.Age = w.h.now
		}
	})
	c.floor = max(c.floor, c.index)
}

// sweep reads everything back at the end.
func (w *world) sweep() {
	w.h.begin(history.Event{Op: history.List, Process: 99, Node: "n1"}).end(history.OK, func(e *history.Event) {
		e.Index, e.Cover = w.index, &history.Cover{From: 1}
		for _, t := range w.tasks {
			if !t.gone {
				e.Tasks = append(e.Tasks, *t.now())
			}
		}
	})
}
