package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/chaos/history"
	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/forward"
)

// client is one user: it goes to any node, repeats what it does not know the
// outcome of under the same request ID, and keeps what it was told in the book.
type client struct {
	w       *World
	id      string
	rng     *rand.Rand
	at      string // the node it talks to
	process int    // in the history
}

func (w *World) newClient(id string) *client {
	return &client{w: w, id: id, rng: w.fork(), process: w.nextProcess()}
}

// run works until ctx ends.
func (c *client) run(ctx context.Context) {
	for sleep(ctx, time.Duration(c.rng.ExpFloat64()*float64(c.w.cfg.Think))) {
		switch x := c.rng.IntN(20); {
		case x < 7:
			if c.w.outstanding() < 200 {
				c.submit(1 + c.rng.IntN(3))
			}
		case x < 9:
			c.cancel()
		case x < 16:
			c.read(true)
		default:
			c.read(false)
		}
	}
}

func (c *client) requestID() (id fsm.RequestID) {
	binary.BigEndian.PutUint64(id[:], c.rng.Uint64()|1)
	binary.BigEndian.PutUint64(id[8:], c.rng.Uint64())
	return id
}

// node is whom to ask: the last one that answered, or any.
func (c *client) node(other bool) string {
	ids := c.w.members("")
	if c.at == "" || other || c.rng.IntN(10) == 0 {
		c.at = ids[c.rng.IntN(len(ids))]
	}
	return c.at
}

// shape draws what a task asks for.
func (c *client) shape() fsm.Shape {
	s := fsm.Shape{CPUMillis: pick(c.rng, uint32(50), 200, 500), RetryLimit: uint32(c.rng.IntN(3)), RetryBackoff: pick(c.rng, 0, 100*time.Millisecond, time.Second)}
	if c.rng.IntN(4) == 0 {
		s.RunTimeout = pick(c.rng, 200*time.Millisecond, 2*time.Second)
	}
	if c.rng.IntN(8) == 0 {
		s.QueueTimeout = 5 * time.Second
	}
	if c.rng.IntN(3) == 0 {
		s.OnLost = fsm.OnLostFail
	}
	return s
}

// submit sends tasks until the outcome is known or the patience is over.
func (c *client) submit(n int) {
	id := c.requestID()
	body := fsm.Submit{Tasks: make([]fsm.Submission, n)}
	names, shapes := make([]string, n), make([]fsm.Shape, n)
	for i := range body.Tasks {
		shape := c.shape()
		names[i], shapes[i] = fmt.Sprintf("%s.%d", nameOf(id), i), shape
		spec, err := fsm.Marshal(fsm.Spec{Name: names[i], Command: []string{"true"}, Shape: shape, KillGrace: 100 * time.Millisecond})
		if err != nil {
			panic(err)
		}
		body.Tasks[i] = fsm.Submission{Shape: shape, Spec: spec}
	}
	s := c.w.book.begin(nameOf(id), n)
	c.write("submit", fsm.CmdSubmit, id, body, func(o outcome, r fsm.Result) { c.w.book.end(s, o, r) },
		func(process int, node string) []history.Event { return submissions(process, node, names, shapes) })
}

// cancel ends one of the newest tasks.
func (c *client) cancel() {
	task, ok := c.w.book.some(c.rng.IntN)
	if !ok {
		return
	}
	id := c.requestID()
	c.write("cancel", fsm.CmdCancel, id, fsm.Cancel{Tasks: []fsm.TaskID{task}}, func(o outcome, r fsm.Result) {
		if o == accepted && r.Count == 1 {
			c.w.book.cancelled(task)
		}
	}, func(process int, node string) []history.Event {
		return []history.Event{{Op: history.Cancel, Process: process, Node: node, Task: task.String(), Key: nameOf(id)}}
	})
}

// patience is how long a client repeats one request.
const patience = 20 * time.Second

// write sends one command until its outcome is known. A refusal of every copy
// is definite.
func (c *client) write(what string, kind fsm.CommandType, id fsm.RequestID, body any, told func(outcome, fsm.Result), ops func(process int, node string) []history.Event) {
	cmd, err := fsm.NewCommand(kind, id, "client:"+c.id, body)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(c.w.ctx, patience)
	defer cancel()
	floor, doubt := c.w.book.floor(), false
	for first := true; ctx.Err() == nil; first = false {
		node := c.node(!first)
		double := c.rng.Float64() < c.w.cfg.Doubles
		if double {
			second := c.w.members("")
			to := second[c.rng.IntN(len(second))]
			doubt = true // its outcome is heard, but not waited for
			c.w.group.Go(func() {
				r, index, err := c.send(ctx, to, cmd, ops(c.w.nextProcess(), to))
				if err == nil && r.Code == fsm.OK {
					c.w.book.answered(what, 0, index)
					told(accepted, r)
				}
			})
		}
		r, index, err := c.send(ctx, node, cmd, ops(c.process, node))
		switch {
		case err == nil && r.Code == fsm.OK:
			c.w.count(what + " done")
			c.w.trace("%s %s at %s: %v+%d index %d", c.id, what, node, r.First, r.Count, index)
			c.w.book.answered(what, floor, index)
			told(accepted, r)
			return
		case err == nil:
			c.w.count(what + " refused")
			if !doubt {
				told(refused, r)
			}
			return
		case errors.Is(err, consensus.ErrOverloaded), errors.Is(err, forward.ErrNoLeader):
			c.w.count(what + " turned away")
			if !doubt && c.rng.IntN(3) > 0 { // give up, sometimes
				c.w.trace("%s %s refused: %v", c.id, what, err)
				told(refused, fsm.Result{})
				return
			}
		default:
			doubt = true
		}
		sleep(ctx, time.Duration(c.rng.Int64N(int64(50*time.Millisecond))))
	}
	c.w.count(what + " unknown")
	c.w.trace("%s %s: outcome unknown", c.id, what)
}

// send is one try at one node.
func (c *client) send(ctx context.Context, node string, cmd []byte, ops []history.Event) (r fsm.Result, index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	end := c.w.history.invoke(ops...)
	var views []history.View
	defer func() {
		switch {
		case err == nil && r.Code == fsm.OK && len(ops) > 0 && ops[0].Op == history.Submit:
			end(history.OK, "", index, given(r))
		case err == nil && r.Code == fsm.OK && views != nil:
			end(history.OK, "", index, views)
		case err == nil && r.Code != fsm.OK:
			end(history.Refused, r.Code.String(), 0, nil)
		case errors.Is(err, consensus.ErrOverloaded), errors.Is(err, forward.ErrNoLeader):
			end(history.Refused, "turned_away", 0, nil)
		default:
			end(history.Unknown, "", 0, nil)
		}
	}()
	err = c.w.ask(ctx, c.id, node, func(ctx context.Context, p *proc) error {
		type out struct {
			r     fsm.Result
			index uint64
			err   error
		}
		ch := make(chan out, 1)
		p.forward.ProposeAsync(p.now().Add(4*time.Second), cmd, func(r fsm.Result, index uint64, err error) { ch <- out{r, index, err} })
		select {
		case o := <-ch:
			r, index = o.r, o.index
			if len(ops) == 1 && ops[0].Op == history.Cancel && o.err == nil && r.Code == fsm.OK && p.group.WaitApplied(ctx, index) == nil {
				if id, err := fsm.ParseTaskID(ops[0].Task); err == nil {
					if v, ok := p.state.Task(id); ok {
						views = []history.View{viewOf(v)}
					}
				}
			}
			return o.err
		case <-ctx.Done():
			return consensus.ErrUnknownOutcome
		}
	})
	return r, index, err
}

// pounce asks a new leader at once, and again: it is in the first moments that
// it could answer too early.
func (w *World) pounce(p *proc) {
	<-p.grouped
	for range 50 {
		if p.ctx.Err() != nil || w.mended() {
			return
		}
		w.askLeader(p)
		sleep(p.ctx, 200*time.Microsecond)
	}
}

// probe asks every process again and again whether it leads: one that was cut
// off, and has not noticed, is asked too.
func (w *World) probe(ctx context.Context) {
	for sleep(ctx, probeEvery) {
		for _, p := range w.procs() {
			if p.ready() {
				w.group.Go(func() { w.askLeader(p) })
			}
		}
	}
}

const probeEvery = 50 * time.Millisecond

// askLeader asks a process, without a network between, for an index to read at.
func (w *World) askLeader(p *proc) {
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	floor := w.book.floor()
	index, err := p.group.ReadIndex(ctx)
	if err == nil && w.net.awake(ctx, p.host.id) == nil && p.ctx.Err() == nil {
		w.count("read index given")
		w.book.answered("read index of "+p.host.id, floor, index)
	}
}

// read asks any node for one task: linearizably, or what it has.
func (c *client) read(strong bool) { c.ask(c.node(false), strong) }

func (c *client) ask(node string, strong bool) {
	task, ok := c.w.book.some(c.rng.IntN)
	if !ok {
		return
	}
	floor := c.w.book.floor()
	ctx, cancel := context.WithTimeout(c.w.ctx, 3*time.Second)
	defer cancel()
	var index uint64
	var age time.Duration
	var known, found bool
	var view *fsm.TaskView
	var at time.Time
	end := c.w.history.invoke(history.Event{Op: history.Get, Process: c.process, Node: node, Task: task.String(), Stale: !strong})
	err := c.w.ask(ctx, c.id, node, func(ctx context.Context, p *proc) error {
		if strong {
			least, err := p.readIndex(ctx)
			if err != nil {
				return err
			}
			if err := p.group.WaitApplied(ctx, least); err != nil {
				return err
			}
		}
		age, known = p.group.Age()
		at = time.Now()
		index = p.group.AppliedIndex()
		view, found = p.state.Task(task)
		return nil
	})
	switch {
	case err != nil, !strong: // the checkers of stale reads need an age that no delay of messages hides
		end(history.Unknown, "", 0, nil)
	case found:
		end(history.OK, "", index, []history.View{viewOf(view)})
	default:
		end(history.Refused, "not_found", index, nil)
	}
	switch {
	case err != nil:
		c.w.count("read failed")
		c.at = ""
	case strong:
		c.w.count("read done")
		c.w.trace("%s reads %s at %s: index %d found %v", c.id, task, node, index, found)
		c.w.book.answered("read at "+node, floor, index)
		if !found {
			c.w.problem("lost", "%s was acknowledged and is not there at index %d on %s", task, index, node)
		}
	case known:
		c.w.count("stale read done")
		// The age does not count how long the last message was under way; one
		// that was held back lives for twice its sender's patience.
		if least := c.w.book.knownBy(at.Add(-age - 2*c.w.cfg.RPCTimeout)); index < least {
			c.w.problem("stale read", "%s says that its state is at most %v old and is at index %d, but by then %d was answered", node, age, index, least)
		}
	}
	if found && view.State.Terminal() {
		c.w.witness.ended("a reader at "+node, view)
	}
}
