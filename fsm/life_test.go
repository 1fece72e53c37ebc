package fsm

import "testing"

func TestTaskLife(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{CPUMillis: 1000})
	if v := r.task(id); v.State != Queued || v.Owner != "alice" || v.Attempt != 0 {
		t.Fatalf("after submit: %+v", v)
	}
	pv := r.s.PlanView(10, 10)
	if len(pv.Classes) != 1 || len(pv.Workers) != 1 || pv.Classes[0].Tasks[0] != (QueuedTask{id, 1}) {
		t.Fatalf("plan view: %+v", pv)
	}
	if !r.assign(id, 1, "n1") || r.task(id).State != Running {
		t.Fatal("not assigned")
	}
	if !r.report(id, 1, "n1", AttemptResult{Reason: EndExit}) {
		t.Fatal("report refused")
	}
	if v := r.task(id); v.State != Succeeded || v.Result == nil || v.EndReason != EndExit {
		t.Fatalf("after report: %+v", v)
	}
}
