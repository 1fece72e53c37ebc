package fsm

import (
	"slices"
	"testing"
)

// A cancelled attempt keeps its capacity until its worker has reported it.
// guards P3
func TestCancelOfRunningKeepsCapacity(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id, other := r.submit(Shape{CPUMillis: 3000}), r.submit(Shape{CPUMillis: 3000})
	r.assign(id, 1, "n1")
	a := r.batch(cmd(t, CmdCancel, RequestID{}, Cancel{Tasks: []TaskID{id}}))
	want := []Change{{ChangeRevoked, id, 1, "n1"}, {ChangeTerminal, id, 1, ""}}
	if !slices.Equal(a.Changes, want) {
		t.Fatalf("changes %+v, want %+v", a.Changes, want)
	}
	if got, want := r.s.Superseded("n1"), []Assignment{{Task: id, Attempt: 1, Node: "n1"}}; !slices.Equal(got, want) {
		t.Fatalf("superseded %+v, want %+v", got, want)
	}
	if v := r.task(id); v.State != Cancelled || v.EndReason != EndCancelled || v.Node != "n1" {
		t.Fatalf("%+v", v)
	}
	if r.assign(other, 1, "n1") {
		t.Fatal("assigned beyond the worker's capacity")
	}
	if len(r.s.Running("n1")) != 0 {
		t.Fatal("a cancelled attempt is still the worker's to run")
	}
	if r.report(id, 1, "n1", AttemptResult{Reason: EndCancelled}) {
		t.Fatal("a superseded result took effect")
	}
	if !r.assign(other, 1, "n1") {
		t.Fatal("not assigned after the report")
	}
}

func TestLossRequeuesInOrder(t *testing.T) {
	for name, lose := range map[string]func(*rig){
		"expired":   func(r *rig) { r.ok(CmdExpireWorker, ExpireWorker{Node: "n1", Incarnation: 1}) },
		"restarted": func(r *rig) { r.node("n1", func(n *Node) { n.Incarnation = 2 }) },
		"removed": func(r *rig) {
			r.ok(CmdRemoveNode, RemoveNode{Node: "n1"})
			r.now += int64(RemoveGrace)
			r.ok(CmdTick, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.node("n1", nil)
			r.node("n2", nil)
			var ids []TaskID
			for range 5 {
				ids = append(ids, r.submit(Shape{CPUMillis: 1000}))
			}
			for _, i := range []int{3, 0, 2} {
				r.assign(ids[i], 1, "n1")
			}
			lose(r)
			got := r.s.PlanView(10, 10).Classes[0].Tasks
			want := []QueuedTask{{ids[0], 2}, {ids[1], 1}, {ids[2], 2}, {ids[3], 2}, {ids[4], 1}}
			if !slices.Equal(got, want) {
				t.Fatalf("line %v, want %v", got, want)
			}
			if r.s.Now() == epoch {
				// The old attempt's result takes no effect: guards P2.
				r.do(CmdReport, Report{Node: "n1", Incarnation: 1, Reports: []AttemptReport{{ids[0], 1, AttemptResult{Reason: EndExit}}}})
			}
			if v := r.task(ids[0]); v.State != Queued || v.Lost != 1 || v.Failures != 0 {
				t.Fatalf("%+v", v)
			}
		})
	}
}

func TestRemovedNodeIsShutOut(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	r.node("n2", nil)
	id := r.submit(Shape{})
	r.assign(id, 1, "n2")
	r.ok(CmdRemoveNode, RemoveNode{Node: "n2"})
	if v := r.task(id); v.RetryAt != r.now+int64(RemoveGrace) {
		t.Fatalf("the removed worker may still run it, and it may run elsewhere at %d", v.RetryAt)
	}
	if !r.s.Revoked("n2") || r.s.Revoked("n1") {
		t.Fatal("revocation set")
	}
	if n, ok := r.s.Node("n2"); !ok || !n.Removed || n.Admitted {
		t.Fatalf("%+v", n)
	}
	for _, c := range []struct {
		kind CommandType
		body any
	}{
		{CmdRegisterNode, RegisterNode{Node: Node{ID: "n2", Incarnation: 2}}},
		{CmdAdmitNode, AdmitNode{TokenID: "join", Hash: [32]byte{1}, Node: "n2"}},
		{CmdReport, Report{Node: "n2", Incarnation: 1, Reports: []AttemptReport{{id, 1, AttemptResult{Reason: EndExit}}}}},
		{CmdDrainNode, DrainNode{Node: "n2", Drain: true}},
	} {
		if res := r.do(c.kind, c.body); res.Code != CodeForbidden {
			t.Errorf("%s of a removed node: %s", c.kind, res.Code)
		}
	}
	if res := r.do(CmdRegisterNode, RegisterNode{Node: Node{ID: "n9", Incarnation: 1}}); res.Code != CodeForbidden {
		t.Errorf("a node that was never admitted registered: %s", res.Code)
	}
	r.ok(CmdRemoveNode, RemoveNode{Node: "n2"}) // again
}

func TestAssignChecksAgain(t *testing.T) {
	shape := Shape{CPUMillis: 1000, MemoryBytes: 1 << 30, Abilities: []string{"kvm"},
		Constraints: []Constraint{{Key: "zone", Op: In, Values: []string{"a"}}}}
	fit := func(n *Node) {
		n.Labels, n.Abilities = []Label{{"zone", "a"}}, []string{"kvm"}
	}
	for name, c := range map[string]struct {
		prepare func(*rig)
		node    NodeID
		attempt uint32
		want    bool
	}{
		"fits":          {nil, "n1", 1, true},
		"wrong attempt": {nil, "n1", 2, false},
		"unknown node":  {nil, "n9", 1, false},
		"draining":      {func(r *rig) { r.ok(CmdDrainNode, DrainNode{Node: "n1", Drain: true}) }, "n1", 1, false},
		"lost":          {func(r *rig) { r.ok(CmdExpireWorker, ExpireWorker{Node: "n1", Incarnation: 1}) }, "n1", 1, false},
		"removed":       {func(r *rig) { r.ok(CmdRemoveNode, RemoveNode{Node: "n1"}) }, "n1", 1, false},
		"back again": {func(r *rig) {
			r.ok(CmdExpireWorker, ExpireWorker{Node: "n1", Incarnation: 1})
			r.node("n1", fit)
		}, "n1", 1, true},
		"no CPU":     {func(r *rig) { r.node("n1", func(n *Node) { fit(n); n.CPUMillis = 999 }) }, "n1", 1, false},
		"no memory":  {func(r *rig) { r.node("n1", func(n *Node) { fit(n); n.MemoryBytes = 1<<30 - 1 }) }, "n1", 1, false},
		"wrong zone": {func(r *rig) { r.node("n1", func(n *Node) { fit(n); n.Labels[0].Value = "b" }) }, "n1", 1, false},
		"no ability": {func(r *rig) { r.node("n1", func(n *Node) { fit(n); n.Abilities = nil }) }, "n1", 1, false},
		"cancelled":  {func(r *rig) { r.ok(CmdCancel, Cancel{Tasks: []TaskID{1}}) }, "n1", 1, false},
		"running":    {func(r *rig) { r.assign(1, 1, "n1") }, "n1", 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Limits{})
			r.node("n1", fit)
			r.submit(shape)
			if c.prepare != nil {
				c.prepare(r)
			}
			if got := r.assign(1, c.attempt, c.node); got != c.want {
				t.Fatalf("assigned: %v", got)
			}
		})
	}
}

func TestRunningPerNodeIsBounded(t *testing.T) {
	r := newRig(t, Limits{RunningPerNode: 2})
	r.node("n1", nil)
	for range 3 {
		r.submit(Shape{})
	}
	if !r.assign(1, 1, "n1") || !r.assign(2, 1, "n1") || r.assign(3, 1, "n1") {
		t.Fatal("want two attempts and no more")
	}
}

func TestConstraintMatches(t *testing.T) {
	labels := []Label{{"a", "1"}, {"b", ""}}
	for _, c := range []struct {
		c    Constraint
		want bool
	}{
		{Constraint{"a", In, []string{"0", "1"}}, true}, {Constraint{"a", In, []string{"2"}}, false},
		{Constraint{"c", In, []string{""}}, false}, {Constraint{"b", In, []string{""}}, true},
		{Constraint{"a", NotIn, []string{"1"}}, false}, {Constraint{"c", NotIn, []string{"1"}}, true},
		{Constraint{"a", Exists, nil}, true}, {Constraint{"c", Exists, nil}, false},
		{Constraint{"a", NotExists, nil}, false}, {Constraint{"c", NotExists, nil}, true}, {Constraint{"a", 9, nil}, false},
	} {
		if got := c.c.Matches(labels); got != c.want {
			t.Errorf("%+v: %v", c.c, got)
		}
	}
}
