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

// A new leader stamps its first batches by its own clock, which may be behind
// what an old leader's last batch said: the state keeps the later time.
func TestTimeNeverFalls(t *testing.T) {
	s := New(Limits{})
	for i, stamp := range []int64{5 * second, 3 * second, 7 * second, 0} {
		if _, err := s.Apply(uint64(i+1), EncodeBatch(stamp, nil)); err != nil {
			t.Fatal(err)
		}
		if want := []int64{5, 5, 7, 7}[i] * second; s.Now() != want {
			t.Fatalf("after a batch of %d the state's time is %d, want %d", stamp, s.Now(), want)
		}
	}
}
