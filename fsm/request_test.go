package fsm

import (
	"slices"
	"testing"
)

// guards P1, P2
func TestRetriedCommandTakesEffectOnce(t *testing.T) {
	r := newRig(t, Limits{RequestIDsKept: 3})
	submit := func(id byte) []byte {
		return cmd(t, CmdSubmit, RequestID{id}, Submit{Tasks: []Submission{{Shape: shapes[0], Spec: spec(t, "x")}}})
	}
	a := r.batch(submit(1), submit(1), submit(2), submit(1)) // also within one batch
	want := []Result{{First: 1, Count: 1}, {First: 1, Count: 1}, {First: 2, Count: 1}, {First: 1, Count: 1}}
	if !slices.Equal(a.Results, want) || len(a.Changes) != 2 {
		t.Fatalf("%+v", a)
	}
	if res := r.batch(submit(2)).Results[0]; res != want[2] {
		t.Fatalf("%+v", res)
	}
	r.batch(submit(3), submit(4)) // 1 is now beyond the window
	if res := r.batch(submit(2)).Results[0]; res != want[2] {
		t.Fatalf("2 was forgotten too early: %+v", res)
	}
	if res := r.batch(submit(1)).Results[0]; res.First != 5 {
		t.Fatalf("1 is still remembered: %+v", res)
	}
	replay(t, r, 2)
}

// A refusal does not stick to its request ID: the retry may succeed.
func TestRefusalsAreNotRemembered(t *testing.T) {
	r := newRig(t, Limits{QueueBound: 1})
	b := cmd(t, CmdSubmit, RequestID{5}, Submit{Tasks: []Submission{{Shape: shapes[0], Spec: spec(t, "x")}}})
	r.submit(shapes[0])
	if res := r.batch(b).Results[0]; res.Code != CodeQueueFull {
		t.Fatalf("%+v", res)
	}
	r.ok(CmdCancel, Cancel{Tasks: []TaskID{1}})
	if res := r.batch(b).Results[0]; res.Code != OK || res.First != 2 {
		t.Fatalf("%+v", res)
	}
}

func TestRequestTableOverManyPages(t *testing.T) {
	tbl := requestTable{byID: map[RequestID]uint64{}}
	id := func(i int) RequestID { return RequestID{1, byte(i), byte(i >> 8)} }
	for i := range 2000 {
		tbl.add(remembered{id: id(i), count: uint32(i)}, 300)
		for _, c := range []struct {
			at   int
			want bool
		}{{i, true}, {i - 299, i >= 299}, {i - 300, false}} {
			if c.at < 0 {
				continue
			}
			res, ok := tbl.get(id(c.at))
			if ok != c.want || ok && res.Count != uint32(c.at) {
				t.Fatalf("after %d: entry %d: %v %+v", i, c.at, ok, res)
			}
		}
	}
	if len(tbl.byID) != 300 || len(tbl.pages) > 300/pageSize+2 {
		t.Fatalf("%d IDs in %d pages", len(tbl.byID), len(tbl.pages))
	}
}

func TestQueueBound(t *testing.T) {
	r := newRig(t, Limits{QueueBound: 3})
	r.node("n1", nil)
	two := Submit{Tasks: []Submission{{Shape: shapes[0], Spec: spec(t, "x")}, {Shape: shapes[1], Spec: spec(t, "x")}}}
	r.ok(CmdSubmit, two)
	before := r.s.Counts()
	if res := r.do(CmdSubmit, two); res.Code != CodeQueueFull {
		t.Fatalf("%+v", res)
	}
	if r.s.Counts() != before {
		t.Fatal("a refused submit left something behind")
	}
	r.assign(1, 1, "n1")
	if res := r.do(CmdSubmit, two); res.Code != CodeQueueFull {
		t.Fatalf("running tasks do not count: %+v", res)
	}
	r.report(1, 1, "n1", AttemptResult{Reason: EndExit})
	r.ok(CmdSubmit, two)
}

func TestOldestFinishedTasksAreForgotten(t *testing.T) {
	r := newRig(t, Limits{FinishedKept: 2})
	for range 4 {
		r.submit(shapes[0])
	}
	for _, id := range []TaskID{3, 1, 4} {
		r.ok(CmdCancel, Cancel{Tasks: []TaskID{id}})
	}
	if _, ok := r.s.Task(3); ok {
		t.Fatal("the task that ended first is still there")
	}
	var left []TaskID
	for _, v := range r.s.List(Filter{}) {
		left = append(left, v.ID)
	}
	if !slices.Equal(left, []TaskID{1, 2, 4}) {
		t.Fatalf("left: %v", left)
	}
	if c := r.s.Counts(); c.Cancelled != 3 || c.Kept != 2 || c.Accepted != 4 {
		t.Fatalf("%+v", c)
	}
	r.ok(CmdCancel, Cancel{Tasks: []TaskID{2}})
	if got := len(r.s.m.shapes) + len(r.s.m.classes) + len(r.s.m.owners); got != 3 {
		t.Fatalf("%d shared parts for two equal tasks", got)
	}
	replay(t, r, 6)
}

func TestList(t *testing.T) {
	r := newRig(t, Limits{})
	var sub Submit
	for i := range 1000 {
		s := Submission{Shape: Shape{Labels: []Label{{"n", string(rune('a' + i%3))}}}, Spec: spec(t, "odd")}
		if i%2 == 0 {
			s.Spec = spec(t, "even")
		}
		sub.Tasks = append(sub.Tasks, s)
	}
	r.ok(CmdSubmit, sub)
	var gone []TaskID
	for id := TaskID(200); id < 700; id++ {
		gone = append(gone, id)
	}
	r.s.m.limits.FinishedKept = 10
	r.ok(CmdCancel, Cancel{Tasks: gone})
	all := func(f Filter) (ids []TaskID) {
		f.Limit = 7
		for {
			page := r.s.List(f)
			for _, v := range page {
				ids = append(ids, v.ID)
				f.After = v.ID
			}
			if len(page) < 7 {
				return ids
			}
		}
	}
	for name, c := range map[string]struct {
		f    Filter
		want func(id TaskID) bool
	}{
		"all":       {Filter{}, func(id TaskID) bool { return true }},
		"newest":    {Filter{Newest: true}, func(id TaskID) bool { return true }},
		"queued":    {Filter{States: []TaskState{Running, Queued}}, func(id TaskID) bool { return id < 200 || id >= 700 }},
		"cancelled": {Filter{States: []TaskState{Cancelled}, Newest: true}, func(id TaskID) bool { return id >= 690 && id < 700 }},
		"label":     {Filter{Labels: []Label{{"n", "b"}}}, func(id TaskID) bool { return (id-1)%3 == 1 }},
		"name":      {Filter{Name: "even"}, func(id TaskID) bool { return id%2 == 1 }},
		"owner":     {Filter{Owner: "bob"}, func(id TaskID) bool { return false }},
		"alice":     {Filter{Owner: "alice"}, func(id TaskID) bool { return true }},
	} {
		var want []TaskID
		for id := TaskID(1); id <= 1000; id++ {
			if (id < 200 || id >= 690) && c.want(id) {
				want = append(want, id)
			}
		}
		if c.f.Newest {
			slices.Reverse(want)
		}
		if got := all(c.f); !slices.Equal(got, want) {
			t.Errorf("%s: %d tasks %v, want %d", name, len(got), got, len(want))
		}
	}
}
