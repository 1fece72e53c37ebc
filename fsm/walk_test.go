package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// The walk visits every order of short commands over two tasks and two nodes
// with at most three attempts each. States that differ in nothing that decides
// what can follow are visited once.
type walker struct {
	t       *testing.T
	seen    map[string]bool
	visited int
	ended   int
}

// walkState is a point of the walk: its log, and the names of its last moves.
type walkState struct {
	log  [][]byte
	now  int64
	path []string
}

func (at *walkState) load(t *testing.T) *State {
	s := New(Limits{})
	for i, b := range at.log {
		if _, err := s.Apply(uint64(i+1), b); err != nil {
			t.Fatalf("%v: %v", at.path, err)
		}
	}
	return s
}

var walkTasks = []TaskID{1, 2}

type move struct {
	cmd  []byte
	idle bool
}

// moves are the commands that may follow, bad ones among them: reports of old
// attempts, from the wrong node, of another incarnation; assignments beyond
// capacity.
func (w *walker) moves(s *State) map[string]move {
	moves := map[string]move{}
	add := func(name string, kind CommandType, body any) {
		moves[name] = move{cmd: cmd(w.t, kind, RequestID{}, body)}
	}
	// idle adds a move that must end no attempt.
	idle := func(name string, kind CommandType, body any) {
		moves[name] = move{cmd: cmd(w.t, kind, RequestID{}, body), idle: true}
	}
	for _, id := range walkTasks {
		v, _ := s.Task(id)
		for _, n := range []NodeID{"n1", "n2"} {
			if v.Attempt < 3 {
				add(fmt.Sprintf("assign %s to %s", id, n), CmdAssign, Assign{[]Assignment{{id, v.Attempt + 1, n}}})
			}
			node, _ := s.Node(n)
			for _, attempt := range []uint32{v.Attempt, v.Attempt - 1} {
				if attempt == 0 || attempt > 3 {
					continue
				}
				put := idle
				if v.State == Running && v.Node == n && v.Attempt == attempt {
					put = add
				}
				for _, code := range []int32{0, 1} {
					put(fmt.Sprintf("report %s/%d from %s: %d", id, attempt, n, code), CmdReport, Report{n, node.Incarnation,
						[]AttemptReport{{id, attempt, AttemptResult{Reason: EndExit, ExitCode: code}}}})
				}
			}
		}
		add(fmt.Sprintf("cancel %s", id), CmdCancel, Cancel{[]TaskID{id}})
	}
	for _, n := range []NodeID{"n1", "n2"} {
		node, _ := s.Node(n)
		add(fmt.Sprintf("expire %s", n), CmdExpireWorker, ExpireWorker{n, node.Incarnation})
		idle(fmt.Sprintf("expire old %s", n), CmdExpireWorker, ExpireWorker{n, node.Incarnation - 1})
		if node.Incarnation < 3 {
			next := Node{ID: n, CPUMillis: 1000, Incarnation: node.Incarnation + 1}
			add(fmt.Sprintf("restart %s", n), CmdRegisterNode, RegisterNode{next})
		}
		again := Node{ID: n, CPUMillis: 1000, Incarnation: node.Incarnation}
		add(fmt.Sprintf("return %s", n), CmdRegisterNode, RegisterNode{again})
	}
	add("tick", CmdTick, nil)
	return moves
}

// shape of the state: what decides what can follow.
func (w *walker) essence(s *State) string {
	var b bytes.Buffer
	for _, id := range walkTasks {
		t := s.m.tasks.get(id)
		fmt.Fprintf(&b, "%d %v %d %d %d %v %d", id, t.state, t.attempt, t.failures, t.lost, t.ready, t.held)
		if t.node != nil {
			fmt.Fprintf(&b, " on %s", t.node.id)
		}
		b.WriteByte('\n')
	}
	for _, n := range s.m.nodeOrder {
		fmt.Fprintf(&b, "%s %v %d %v\n", n.id, n.lost, n.desc.Incarnation, n.zombies)
	}
	return b.String()
}

// walk makes every move from one state, and returns the states not seen
// before. Layer by layer, each is reached by its shortest order.
func (w *walker) walk(at walkState) (found []walkState) {
	before := at.load(w.t)
	moves := w.moves(before)
	for _, name := range slices.Sorted(maps.Keys(moves)) {
		move := moves[name]
		now := at.now
		if name == "tick" {
			now += int64(time.Hour)
		}
		next := walkState{append(at.log[:len(at.log):len(at.log)], EncodeBatch(now, [][]byte{move.cmd})),
			now, append(at.path[:len(at.path):len(at.path)], name)}
		s := next.load(w.t)
		w.visited++
		w.check(before, s, next.path, move.idle)
		essence := w.essence(s)
		if w.seen[essence] {
			continue
		}
		w.seen[essence] = true
		restored := New(Limits{})
		if err := restored.Restore(bytes.NewReader(write(w.t, s))); err != nil || restored.Hash() != s.Hash() {
			w.t.Fatalf("%v: not the same after a restore (%v)", next.path, err)
		}
		found = append(found, next)
	}
	return found
}

func (w *walker) check(before, after *State, path []string, idle bool) {
	running := map[NodeID]int{}
	for _, id := range walkTasks {
		was, _ := before.Task(id)
		is, _ := after.Task(id)
		switch {
		case idle && (is.State != was.State || is.Attempt != was.Attempt || is.Failures != was.Failures || is.Lost != was.Lost):
			w.t.Fatalf("%v: what is superseded took effect: %s went from %+v to %+v", path, id, was, is)
		case was.State.Terminal() && (is.State != was.State || is.Result != nil && was.Result != nil && is.Result.ExitCode != was.Result.ExitCode ||
			is.FinishedAt != was.FinishedAt):
			w.t.Fatalf("%v: terminal task %s changed from %+v to %+v", path, id, was, is)
		case is.Attempt < was.Attempt || is.Attempt > was.Attempt+1:
			w.t.Fatalf("%v: attempt of %s went from %d to %d", path, id, was.Attempt, is.Attempt)
		case is.Attempt != was.Attempt && (was.State != Queued || is.State != Running):
			w.t.Fatalf("%v: a new attempt of %s began in %s", path, id, was.State)
		case is.State == Succeeded && was.State != Succeeded && was.State != Running:
			w.t.Fatalf("%v: %s succeeded without running", path, id)
		}
		if is.State == Succeeded && was.State == Running {
			w.ended++
		}
		if is.State == Running {
			running[is.Node]++
		}
	}
	for _, n := range after.Nodes() {
		// Each task takes a whole node: two attempts at once would show.
		if n.Running != running[n.ID] || n.UsedCPUMillis != int64(1000*(n.Running+n.Superseded)) || n.UsedCPUMillis > 1000 {
			w.t.Fatalf("%v: node %+v", path, n)
		}
		if n.Lost && n.Running+n.Superseded > 0 {
			w.t.Fatalf("%v: lost node %s still runs something", path, n.ID)
		}
	}
}

func (w *walker) walkFrom(at walkState, depth int) {
	for layer := []walkState{at}; depth > 0; depth-- {
		var next []walkState
		for _, at := range layer {
			next = append(next, w.walk(at)...)
		}
		layer = next
	}
}

// guards P2, P3, P9
func TestAllShortOrders(t *testing.T) {
	r := newRig(t, Limits{})
	for _, n := range []NodeID{"n1", "n2"} {
		r.node(n, func(n *Node) { n.CPUMillis = 1000 })
	}
	r.submit(Shape{CPUMillis: 1000, RetryLimit: 1, RunTimeout: time.Minute})
	r.submit(Shape{CPUMillis: 1000, RetryLimit: 1, RetryBackoff: time.Minute, QueueTimeout: 365 * 24 * time.Hour})
	w := &walker{t: t, seen: map[string]bool{}}
	w.walkFrom(walkState{r.log, r.now, nil}, 5)
	// Once more from where both have failed, for the ends of later attempts.
	for _, id := range walkTasks {
		r.assign(id, 1, "n1")
		r.report(id, 1, "n1", AttemptResult{Reason: EndExit, ExitCode: 1})
	}
	r.now += int64(time.Minute)
	r.ok(CmdTick, nil)
	w.walkFrom(walkState{r.log, r.now, nil}, 4)
	if w.visited < 1000 || w.ended == 0 {
		t.Fatalf("visited %d orders, %d ended: the walk does not walk", w.visited, w.ended)
	}
	t.Logf("%d transitions, %d distinct states", w.visited, len(w.seen))
}
