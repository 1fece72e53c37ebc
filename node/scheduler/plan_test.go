package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast/fsm"
)

var wide = Bounds{Tasks: 1 << 20, Classes: 1 << 20}

func node(id string, cpu, free int64, labels ...fsm.Label) fsm.WorkerView {
	return fsm.WorkerView{ID: fsm.NodeID(id), TotalCPUMillis: cpu, FreeCPUMillis: free, TotalMemoryBytes: 1000, FreeMemoryBytes: 1000,
		FreeSlots: 100, Labels: labels}
}

func class(shape fsm.Shape, ids ...fsm.TaskID) fsm.ClassView {
	c := fsm.ClassView{Shape: &shape, Ready: len(ids)}
	for _, id := range ids {
		c.Tasks = append(c.Tasks, fsm.QueuedTask{ID: id, NextAttempt: 1})
	}
	return c
}

func text(plan []fsm.Assignment) (s []string) {
	for _, a := range plan {
		s = append(s, fmt.Sprintf("%d.%d@%s", a.Task, a.Attempt, a.Node))
	}
	return s
}

func TestPlan(t *testing.T) {
	zone := func(v string) fsm.Label { return fsm.Label{Key: "zone", Value: v} }
	in := func(op fsm.Operator, values ...string) []fsm.Constraint {
		return []fsm.Constraint{{Key: "zone", Op: op, Values: values}}
	}
	for _, c := range []struct {
		name    string
		workers []fsm.WorkerView
		classes []fsm.ClassView
		bounds  Bounds
		want    []string
	}{
		{name: "nobody there", classes: []fsm.ClassView{class(fsm.Shape{}, 1)}},
		{name: "spread takes the freest share", workers: []fsm.WorkerView{node("a", 1000, 400), node("b", 400, 300)},
			classes: []fsm.ClassView{class(fsm.Shape{CPUMillis: 100}, 1)}, want: []string{"1.1@b"}},
		{name: "pack takes the fullest that fits", workers: []fsm.WorkerView{node("a", 1000, 1000), node("b", 1000, 200), node("c", 1000, 50)},
			classes: []fsm.ClassView{class(fsm.Shape{CPUMillis: 100, Placement: fsm.Pack}, 1, 2, 3)}, want: []string{"1.1@b", "2.1@b", "3.1@a"}},
		{name: "ties go to the lower ID", workers: []fsm.WorkerView{node("b", 1000, 1000), node("a", 1000, 1000)},
			classes: []fsm.ClassView{class(fsm.Shape{CPUMillis: 100}, 1, 2, 3)}, want: []string{"1.1@a", "2.1@b", "3.1@a"}},
		{name: "priority, then first come over classes", workers: []fsm.WorkerView{node("a", 1000, 300)},
			classes: []fsm.ClassView{class(fsm.Shape{CPUMillis: 100, Priority: 9}, 7), class(fsm.Shape{CPUMillis: 100}, 2, 5),
				class(fsm.Shape{CPUMillis: 100, MemoryBytes: 1}, 3, 4)},
			want: []string{"7.1@a", "2.1@a", "3.1@a"}},
		{name: "what fits nowhere blocks nobody", workers: []fsm.WorkerView{node("a", 1000, 100)},
			classes: []fsm.ClassView{class(fsm.Shape{CPUMillis: 500, Priority: 9}, 1, 2), class(fsm.Shape{CPUMillis: 100}, 3)}, want: []string{"3.1@a"}},
		{name: "memory counts", workers: []fsm.WorkerView{node("a", 1000, 1000)},
			classes: []fsm.ClassView{class(fsm.Shape{MemoryBytes: 600}, 1, 2)}, want: []string{"1.1@a"}},
		{name: "in", workers: []fsm.WorkerView{node("a", 9, 9), node("b", 9, 9, zone("x")), node("c", 9, 9, zone("y"))},
			classes: []fsm.ClassView{class(fsm.Shape{Constraints: in(fsm.In, "y", "z")}, 1)}, want: []string{"1.1@c"}},
		{name: "not in", workers: []fsm.WorkerView{node("b", 9, 9, zone("x")), node("c", 9, 9)},
			classes: []fsm.ClassView{class(fsm.Shape{Constraints: in(fsm.NotIn, "x")}, 1)}, want: []string{"1.1@c"}},
		{name: "exists", workers: []fsm.WorkerView{node("a", 9, 9), node("b", 9, 9, zone("x"))},
			classes: []fsm.ClassView{class(fsm.Shape{Constraints: in(fsm.Exists)}, 1)}, want: []string{"1.1@b"}},
		{name: "not exists", workers: []fsm.WorkerView{node("a", 9, 9, zone("x")), node("b", 9, 9)},
			classes: []fsm.ClassView{class(fsm.Shape{Constraints: in(fsm.NotExists)}, 1)}, want: []string{"1.1@b"}},
		{name: "abilities", workers: []fsm.WorkerView{node("a", 9, 9), {ID: "b", FreeSlots: 1, Abilities: []string{"kvm", "net"}}},
			classes: []fsm.ClassView{class(fsm.Shape{Abilities: []string{"net"}}, 1)}, want: []string{"1.1@b"}},
		{name: "slots", workers: []fsm.WorkerView{{ID: "a", FreeSlots: 1}},
			classes: []fsm.ClassView{class(fsm.Shape{}, 1, 2)}, want: []string{"1.1@a"}},
		{name: "the bound", workers: []fsm.WorkerView{node("a", 9, 9)}, bounds: Bounds{Tasks: 2, Classes: 9},
			classes: []fsm.ClassView{class(fsm.Shape{}, 1, 2, 3)}, want: []string{"1.1@a", "2.1@a"}},
		{name: "does not overtake classes that were left out", workers: []fsm.WorkerView{node("a", 9, 9)}, bounds: Bounds{Tasks: 9, Classes: 2},
			classes: []fsm.ClassView{class(fsm.Shape{}, 1, 3, 8), class(fsm.Shape{MemoryBytes: 1}, 5, 6)}, want: []string{"1.1@a", "3.1@a", "5.1@a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.bounds == (Bounds{}) {
				c.bounds = wide
			}
			got := text(Plan(fsm.PlanView{Workers: c.workers, Classes: c.classes}, c.bounds))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func drawView(t *rapid.T) fsm.PlanView {
	var v fsm.PlanView
	for i := range rapid.IntRange(0, 6).Draw(t, "workers") {
		total := rapid.Int64Range(0, 4000).Draw(t, "cpu")
		memory := rapid.Int64Range(0, 4000).Draw(t, "memory")
		w := fsm.WorkerView{ID: fsm.NodeID(fmt.Sprintf("n%d", i)), TotalCPUMillis: total, TotalMemoryBytes: memory,
			FreeCPUMillis: rapid.Int64Range(0, total).Draw(t, "free"), FreeMemoryBytes: rapid.Int64Range(0, memory).Draw(t, "freeMemory"),
			FreeSlots: rapid.IntRange(0, 20).Draw(t, "slots"), Running: rapid.IntRange(0, 3).Draw(t, "running")}
		if rapid.Bool().Draw(t, "labelled") {
			w.Labels = []fsm.Label{{Key: "zone", Value: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "zone")}}
		}
		v.Workers = append(v.Workers, w)
	}
	next := fsm.TaskID(1)
	for range rapid.IntRange(0, 6).Draw(t, "classes") {
		shape := fsm.Shape{Priority: uint8(rapid.IntRange(0, 2).Draw(t, "priority")), CPUMillis: uint32(rapid.IntRange(0, 900).Draw(t, "wantCPU")),
			MemoryBytes: uint64(rapid.IntRange(0, 900).Draw(t, "wantMemory")), Placement: fsm.Placement(rapid.IntRange(0, 1).Draw(t, "placement"))}
		if rapid.Bool().Draw(t, "constrained") {
			shape.Constraints = []fsm.Constraint{{Key: "zone", Op: fsm.Operator(rapid.IntRange(1, 4).Draw(t, "op")), Values: []string{"x"}}}
		}
		c := fsm.ClassView{Shape: &shape}
		for range rapid.IntRange(1, 8).Draw(t, "tasks") {
			next += fsm.TaskID(rapid.IntRange(1, 9).Draw(t, "gap"))
			c.Tasks = append(c.Tasks, fsm.QueuedTask{ID: next, NextAttempt: 1})
		}
		v.Classes = append(v.Classes, c)
	}
	// IDs interleave between classes.
	ids := make([]fsm.TaskID, 0)
	for _, c := range v.Classes {
		for _, q := range c.Tasks {
			ids = append(ids, q.ID)
		}
	}
	ids = rapid.Permutation(ids).Draw(t, "order")
	for i := range v.Classes {
		n := len(v.Classes[i].Tasks)
		mine := slices.Clone(ids[:n])
		ids = ids[n:]
		slices.Sort(mine)
		for j := range mine {
			v.Classes[i].Tasks[j].ID = mine[j]
		}
	}
	return v
}

// Never more than there is, only where it may run, in order, and nothing left
// behind that would still fit.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		view := drawView(t)
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		plan := Plan(view, Bounds{Tasks: limit, Classes: 100})

		shuffled := view
		shuffled.Workers = rapid.Permutation(view.Workers).Draw(t, "workersOrder")
		shuffled.Classes = rapid.Permutation(view.Classes).Draw(t, "classesOrder")
		if diff := cmp.Diff(plan, Plan(shuffled, Bounds{Tasks: limit, Classes: 100})); diff != "" {
			t.Fatalf("the plan depends on the order of the view: %s", diff)
		}
		if len(plan) > limit {
			t.Fatalf("%d assignments, the bound is %d", len(plan), limit)
		}

		left := map[fsm.NodeID]*fsm.WorkerView{}
		for i := range view.Workers {
			w := view.Workers[i]
			left[w.ID] = &w
		}
		shapes := map[fsm.TaskID]*fsm.Shape{}
		planned := map[fsm.TaskID]bool{}
		for _, c := range view.Classes {
			for _, q := range c.Tasks {
				shapes[q.ID] = c.Shape
			}
		}
		fits := func(w *fsm.WorkerView, s *fsm.Shape) bool {
			return w.FreeSlots > 0 && w.FreeCPUMillis >= int64(s.CPUMillis) && w.FreeMemoryBytes >= int64(s.MemoryBytes) && s.Fits(w.Labels, w.Abilities)
		}
		for i, a := range plan {
			s, w := shapes[a.Task], left[a.Node]
			if planned[a.Task] || !fits(w, s) {
				t.Fatalf("assignment %d (%+v) is a repeat or does not fit", i, a)
			}
			// Whoever should come before, and is not planned, fits nowhere now.
			for id, other := range shapes {
				before := other.Priority > s.Priority || other.Priority == s.Priority && id < a.Task
				if !before || planned[id] {
					continue
				}
				for _, w := range left {
					if fits(w, other) {
						t.Fatalf("%s overtook %s, which fits on %s", a.Task, id, w.ID)
					}
				}
			}
			planned[a.Task] = true
			w.FreeCPUMillis -= int64(s.CPUMillis)
			w.FreeMemoryBytes -= int64(s.MemoryBytes)
			w.FreeSlots--
		}
		if len(plan) < limit {
			for id, s := range shapes {
				for _, w := range left {
					if !planned[id] && fits(w, s) {
						t.Fatalf("%s was left behind, though it fits on %s", id, w.ID)
					}
				}
			}
		}
	})
}

func TestExplain(t *testing.T) {
	x := fsm.Label{Key: "zone", Value: "x"}
	workers := []fsm.WorkerView{node("a", 1000, 200, x), node("b", 1000, 1000), node("c", 1000, 1000)}
	shape := fsm.Shape{CPUMillis: 500, Constraints: []fsm.Constraint{{Key: "zone", Op: fsm.In, Values: []string{"x"}}}}
	for _, c := range []struct {
		name    string
		workers []fsm.WorkerView
		shape   fsm.Shape
		want    string
	}{
		{"as in the comment", workers, shape, "0 of 3 nodes fit: 2 lack label zone=x, 1 has 200 of 500 CPU millis free"},
		{"one", workers[1:2], shape, "0 of 1 nodes fit: 1 lacks label zone=x"},
		{"nobody", nil, shape, "no node takes tasks: none is registered, or all are draining or lost"},
		{"it fits", workers, fsm.Shape{}, "3 of 3 nodes fit: it waits for tasks ahead of it"},
		{"too large", workers[:1], fsm.Shape{CPUMillis: 9000}, "0 of 1 nodes fit: 1 has only 1000 CPU millis, the task wants 9000"},
		{"memory", workers[:1], fsm.Shape{MemoryBytes: 9000}, "0 of 1 nodes fit: 1 has only 1000 bytes of memory, the task wants 9000"},
		{"ability", workers[:1], fsm.Shape{Abilities: []string{"kvm"}}, "0 of 1 nodes fit: 1 lacks ability kvm"},
	} {
		if got := Explain(fsm.PlanView{Workers: c.workers}, &c.shape); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	var many []fsm.WorkerView
	for i := range 500 {
		many = append(many, node(fmt.Sprint(i), 1000, int64(i)%90))
	}
	if got := Explain(fsm.PlanView{Workers: many}, &fsm.Shape{CPUMillis: 100}); len(got) > 400 || !strings.Contains(got, "more") {
		t.Errorf("the answer for many nodes is not bounded: %d bytes", len(got))
	}
}
