package fsm

import (
	"bytes"
	"cmp"
	"io"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var shapes = []Shape{
	{CPUMillis: 1000, MemoryBytes: 1 << 30},
	{CPUMillis: 3000, Priority: 10, RetryLimit: 2, RetryBackoff: 5 * time.Second},
	{MemoryBytes: 3 << 30, OnLost: OnLostFail, RunTimeout: 20 * time.Second, RetryLimit: 1},
	{CPUMillis: 500, QueueTimeout: 15 * time.Second, RunTimeout: 10 * time.Second, RetryLimit: 3, RetryBackoff: time.Second},
	{CPUMillis: 500, Priority: 10, Labels: []Label{{"app", "x"}}},
}

// walk drives a state and the model side by side.
type walk struct {
	*rig
	m *model
}

func (w *walk) anyTask(t *rapid.T) (TaskID, *modelTask) {
	if len(w.m.tasks) == 0 {
		t.Skip("no task")
	}
	i := rapid.IntRange(0, len(w.m.tasks)-1).Draw(t, "task")
	return TaskID(i + 1), w.m.tasks[i]
}

func anyNode(t *rapid.T) NodeID { return rapid.SampledFrom([]NodeID{"n1", "n2"}).Draw(t, "node") }

func (w *walk) Submit(t *rapid.T) {
	sub := Submit{}
	for range rapid.IntRange(1, 3).Draw(t, "count") {
		s := rapid.SampledFrom(shapes).Draw(t, "shape")
		sub.Tasks = append(sub.Tasks, Submission{Shape: s, Spec: spec(w.t, "m")})
		w.m.tasks = append(w.m.tasks, &modelTask{shape: s, state: Queued, due: w.now, ready: true})
	}
	if res := w.ok(CmdSubmit, sub); int(res.First)+int(res.Count)-1 != len(w.m.tasks) {
		t.Fatalf("submit: %+v with %d tasks", res, len(w.m.tasks))
	}
}

func (w *walk) Advance(t *rapid.T) {
	w.now += int64(rapid.IntRange(1, 12).Draw(t, "seconds")) * second
	w.m.now = w.now
	w.ok(CmdTick, nil)
	w.m.tick()
}

// Drift lets time pass without a tick.
func (w *walk) Drift(t *rapid.T) {
	w.now += int64(rapid.IntRange(1, 12).Draw(t, "seconds")) * second
	w.m.now = w.now
	w.ok(CmdDrainNode, DrainNode{Node: "n1", Drain: w.m.nodes["n1"].drained})
}

func (w *walk) Assign(t *rapid.T) {
	id, mt := w.anyTask(t)
	nid := anyNode(t)
	n := w.m.nodes[nid]
	attempt := mt.attempt + uint32(rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(t, "step"))
	cpu, mem := w.m.used(nid)
	want := mt.state == Queued && mt.ready && attempt == mt.attempt+1 && n.registered && !n.drained && !n.lost &&
		cpu+int64(mt.shape.CPUMillis) <= n.cpu && mem+int64(mt.shape.MemoryBytes) <= n.mem
	if got := w.assign(id, attempt, nid); got != want {
		t.Fatalf("assign %s attempt %d to %s: %v, want %v", id, attempt, nid, got, want)
	}
	if want {
		mt.waited += w.now - mt.due
		mt.state, mt.node, mt.attempt, mt.started, mt.ready = Running, nid, attempt, w.now, false
	}
}

func (w *walk) Report(t *rapid.T) {
	id, mt := w.anyTask(t)
	nid := anyNode(t)
	n := w.m.nodes[nid]
	if !n.registered {
		t.Skip("not registered")
	}
	attempt := max(1, mt.attempt) - uint32(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "back"))
	reason := rapid.SampledFrom([]EndReason{EndExit, EndExit, EndSignal, EndLost, EndShutdown}).Draw(t, "reason")
	code := rapid.Int32Range(0, 1).Draw(t, "code")
	zombie := n.zombies[key(id, attempt)]
	want := zombie == nil && mt.state == Running && mt.node == nid && mt.attempt == attempt
	res := w.ok(CmdReport, Report{Node: nid, Incarnation: n.incarnation,
		Reports: []AttemptReport{{id, attempt, AttemptResult{Reason: reason, ExitCode: code}}}})
	if (res.Count == 1) != want {
		t.Fatalf("report of %s attempt %d: count %d, want %v", id, attempt, res.Count, want)
	}
	switch {
	case zombie != nil:
		delete(n.zombies, key(id, attempt))
		w.m.releaseOf(map[string]*modelTask{key(id, attempt): zombie})
	case !want:
	case reason == EndLost || reason == EndShutdown:
		w.m.loseTask(mt, w.now)
	case reason == EndExit && code == 0:
		w.m.end(mt, Succeeded)
	default:
		w.m.failTask(mt, false)
	}
}

func (w *walk) Cancel(t *rapid.T) {
	id, mt := w.anyTask(t)
	want := OK
	if mt.state.Terminal() {
		want = CodeConflict
	}
	if res := w.do(CmdCancel, Cancel{Tasks: []TaskID{id}}); res.Code != want {
		t.Fatalf("cancel %s: %s, want %s", id, res.Code, want)
	}
	if want == OK {
		if mt.state == Running {
			w.m.nodes[mt.node].zombies[key(id, mt.attempt)] = mt
		}
		w.m.end(mt, Cancelled)
	}
}

func (w *walk) Register(t *rapid.T) {
	id := anyNode(t)
	n := w.m.nodes[id]
	restart := rapid.Bool().Draw(t, "restart")
	if restart || !n.registered {
		n.incarnation++
	}
	w.ok(CmdRegisterNode, RegisterNode{Node: Node{ID: id, CPUMillis: uint32(n.cpu), MemoryBytes: uint64(n.mem), Incarnation: n.incarnation}})
	if restart {
		w.m.lose(id, w.now)
	}
	n.registered, n.lost = true, false
}

func (w *walk) Expire(t *rapid.T) {
	id := anyNode(t)
	n := w.m.nodes[id]
	stale := rapid.Bool().Draw(t, "stale")
	inc := n.incarnation
	if stale {
		inc += 7
	}
	res := w.do(CmdExpireWorker, ExpireWorker{Node: id, Incarnation: inc})
	if want := n.registered && !stale; (res.Code == OK) != want {
		t.Fatalf("expire: %+v", res)
	}
	if res.Code == OK && !n.lost {
		w.m.lose(id, w.now)
		n.lost = true
	}
}

func (w *walk) Drain(t *rapid.T) {
	id := anyNode(t)
	w.m.nodes[id].drained = rapid.Bool().Draw(t, "drain")
	w.ok(CmdDrainNode, DrainNode{Node: id, Drain: w.m.nodes[id].drained})
}

// Check compares everything that can be read with the model.
func (w *walk) Check(t *rapid.T) {
	counts := map[TaskState]int{}
	lines := map[uint8][]TaskID{}
	for i, mt := range w.m.tasks {
		id := TaskID(i + 1)
		v := w.task(id)
		if v.State != mt.state || v.Attempt != mt.attempt || v.Failures != mt.failures || v.Lost != mt.lost || v.Node != cmp.Or(mt.node, mt.last) {
			t.Fatalf("task %s: %+v, model %+v", id, v, mt)
		}
		if mt.state == Queued && (v.RetryAt == 0) != mt.ready {
			t.Fatalf("task %s: retry at %d, model %+v", id, v.RetryAt, mt)
		}
		counts[mt.state]++
		if mt.ready {
			lines[mt.shape.Priority] = append(lines[mt.shape.Priority], id)
		}
	}
	c := w.s.Counts()
	if c.Queued != counts[Queued] || c.Running != counts[Running] || int(c.Succeeded) != counts[Succeeded] ||
		int(c.Failed) != counts[Failed] || int(c.Cancelled) != counts[Cancelled] || int(c.Expired) != counts[Expired] ||
		int(c.Accepted) != len(w.m.tasks) {
		t.Fatalf("counts %+v, model %v", c, counts)
	}
	w.checkPlan(t, lines)
	for id, mn := range w.m.nodes {
		v, _ := w.s.Node(id)
		cpu, mem := w.m.used(id)
		if v.UsedCPUMillis != cpu || v.UsedMemoryBytes != mem || v.Superseded != len(mn.zombies) {
			t.Fatalf("node %s: %+v, model %d CPU %d memory", id, v, cpu, mem)
		}
		if cpu > mn.cpu || mem > mn.mem || cpu < 0 || mem < 0 {
			t.Fatalf("node %s is used beyond what it has: %d of %d, %d of %d", id, cpu, mn.cpu, mem, mn.mem)
		}
	}
}

func (w *walk) checkPlan(t *rapid.T, lines map[uint8][]TaskID) {
	got := map[uint8][]TaskID{}
	last, head := uint8(maxPriority), TaskID(0)
	for _, c := range w.s.PlanView(1<<20, 1<<20).Classes {
		p := c.Shape.Priority
		if p > last || p == last && c.Tasks[0].ID <= head {
			t.Fatalf("classes out of order")
		}
		last, head = p, c.Tasks[0].ID
		if c.Ready != len(c.Tasks) {
			t.Fatalf("class of %d tasks shows %d", c.Ready, len(c.Tasks))
		}
		for i, q := range c.Tasks {
			if i > 0 && c.Tasks[i-1].ID >= q.ID {
				t.Fatalf("line out of order: %v", c.Tasks)
			}
			if q.NextAttempt != w.m.tasks[q.ID-1].attempt+1 {
				t.Fatalf("next attempt %+v", q)
			}
			got[p] = append(got[p], q.ID)
		}
	}
	for p, want := range lines {
		slices.Sort(got[p])
		if !slices.Equal(got[p], want) {
			t.Fatalf("priority %d: line %v, want %v", p, got[p], want)
		}
		delete(got, p)
	}
	if len(got) > 0 {
		t.Fatalf("lines with tasks that are not ready: %v", got)
	}
}

// guards P1, P2, P3, P9
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(rt, Limits{})
		r.node("n1", nil)
		r.node("n2", nil)
		node := func() *modelNode {
			return &modelNode{cpu: 4000, mem: 4 << 30, incarnation: 1, registered: true, zombies: map[string]*modelTask{}}
		}
		w := &walk{rig: r, m: &model{now: r.now, nodes: map[NodeID]*modelNode{"n1": node(), "n2": node()}}}
		rt.Repeat(map[string]func(*rapid.T){
			"submit": w.Submit, "advance": w.Advance, "drift": w.Drift, "assign": w.Assign, "assign2": w.Assign,
			"report": w.Report, "cancel": w.Cancel, "register": w.Register, "expire": w.Expire, "drain": w.Drain,
			"": w.Check,
		})
		replay(rt, r, rapid.IntRange(0, len(r.log)).Draw(rt, "cut"))
	})
}

// replay applies the rig's log again, whole and through a snapshot at the cut,
// and compares hashes and all that Apply has returned.
func replay(t interface{ Fatalf(string, ...any) }, r *rig, cut int) {
	again, restored := New(r.s.limits), New(r.s.limits)
	for i, b := range r.log {
		if i == cut {
			if err := restored.Restore(bytes.NewReader(write(t, again))); err != nil {
				t.Fatalf("restore at %d: %v", cut, err)
			}
			if again.Hash() != restored.Hash() {
				t.Fatalf("hashes differ right after the restore at %d", cut)
			}
		}
		a, err := again.Apply(uint64(i+1), b)
		if err != nil {
			t.Fatalf("replay: %v", err)
		}
		if i < cut {
			continue
		}
		b, err := restored.Apply(uint64(i+1), b)
		if err != nil {
			t.Fatalf("replay after restore: %v", err)
		}
		if !slices.Equal(a.Results, b.Results) || !slices.Equal(a.Changes, b.Changes) {
			t.Fatalf("entry %d: %+v, after a restore %+v", i+1, a, b)
		}
	}
	if cut < len(r.log) && again.Hash() != restored.Hash() {
		t.Fatalf("hashes differ after a restore at %d of %d", cut, len(r.log))
	}
	if again.Hash() != r.s.Hash() {
		t.Fatalf("hashes differ after a replay")
	}
}

func write(t interface{ Fatalf(string, ...any) }, s *State) []byte {
	snap := s.Snapshot()
	defer snap.Release()
	var buf bytes.Buffer
	n, err := snap.WriteTo(&buf)
	if err != nil || n != int64(buf.Len()) {
		t.Fatalf("write snapshot: %d of %d bytes, %v", n, buf.Len(), err)
	}
	return buf.Bytes()
}

var _ io.WriterTo = (*Snapshot)(nil)
