package fsm

import (
	"testing"
	"time"
)

func TestFailuresAreRetriedWithBackoff(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{RetryLimit: 2, RetryBackoff: 10 * time.Second})
	for attempt, wait := range []time.Duration{10 * time.Second, 20 * time.Second} {
		n := uint32(attempt + 1)
		if !r.assign(id, n, "n1") || !r.report(id, n, "n1", AttemptResult{Reason: EndExit, ExitCode: 1}) {
			t.Fatalf("attempt %d did not run", n)
		}
		v := r.task(id)
		if v.State != Queued || v.Failures != n || v.RetryAt != r.now+int64(wait) {
			t.Fatalf("after failure %d: %+v, want a retry in %v", n, v, wait)
		}
		if at, ok := r.s.NextDeadline(); !ok || at != v.RetryAt {
			t.Fatalf("next deadline %d, want %d", at, v.RetryAt)
		}
		r.now += int64(wait) - 1
		r.ok(CmdTick, nil)
		if r.assign(id, n+1, "n1") {
			t.Fatal("assigned before its backoff was over")
		}
		r.now++
		if got := r.ok(CmdTick, nil).Count; got != 1 {
			t.Fatalf("tick moved %d timers, want 1", got)
		}
	}
	r.assign(id, 3, "n1")
	r.report(id, 3, "n1", AttemptResult{Reason: EndSignal, Signal: "SIGSEGV"})
	if v := r.task(id); v.State != Failed || v.EndReason != EndSignal || v.Failures != 3 {
		t.Fatalf("after the last failure: %+v", v)
	}
}

func TestBackoffIsCapped(t *testing.T) {
	for _, c := range []struct {
		base time.Duration
		n    uint32
		want time.Duration
	}{
		{time.Second, 1, time.Second}, {time.Second, 4, 8 * time.Second}, {time.Second, 1000, MaxRetryBackoff},
		{0, 5, 0}, {MaxDuration, 3, MaxRetryBackoff},
	} {
		if got := backoff(c.base, c.n); got != c.want {
			t.Errorf("backoff(%v, %d) = %v, want %v", c.base, c.n, got, c.want)
		}
	}
}

// Every end of a command counts as a failure, every end of a worker as a loss.
func TestWhatCountsAsFailure(t *testing.T) {
	for _, c := range []struct {
		reason   EndReason
		failures uint32
		lost     uint32
		state    TaskState
	}{
		{EndExit, 1, 0, Queued}, {EndSignal, 1, 0, Queued}, {EndTimeout, 1, 0, Queued}, {EndOutOfMemory, 1, 0, Queued},
		{EndStartFailed, 1, 0, Queued}, {EndLost, 0, 1, Queued}, {EndShutdown, 0, 1, Queued}, {EndCancelled, 0, 1, Queued},
	} {
		r := newRig(t, Limits{})
		r.node("n1", nil)
		id := r.submit(Shape{RetryLimit: 1})
		r.assign(id, 1, "n1")
		if !r.report(id, 1, "n1", AttemptResult{Reason: c.reason, ExitCode: 1}) {
			t.Fatalf("%s: refused", c.reason)
		}
		if v := r.task(id); v.State != c.state || v.Failures != c.failures || v.Lost != c.lost {
			t.Errorf("%s: %s, %d failures, %d lost", c.reason, v.State, v.Failures, v.Lost)
		}
	}
}

func TestLostAttemptsAreBounded(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{})
	for n := uint32(1); n <= MaxLostAttempts; n++ {
		if !r.assign(id, n, "n1") || !r.report(id, n, "n1", AttemptResult{Reason: EndLost}) {
			t.Fatalf("attempt %d did not run", n)
		}
	}
	if v := r.task(id); v.State != Failed || v.EndReason != EndLost {
		t.Fatalf("%+v", v)
	}
	fail := r.submit(Shape{OnLost: OnLostFail, RetryLimit: 9})
	r.assign(fail, 1, "n1")
	r.ok(CmdExpireWorker, ExpireWorker{Node: "n1", Incarnation: 1})
	if v := r.task(fail); v.State != Failed || v.EndReason != EndLost {
		t.Fatalf("on_lost fail: %+v", v)
	}
}

func TestQueueTimeoutCountsWaitsOnly(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{QueueTimeout: 10 * time.Second, RetryLimit: 5, RetryBackoff: time.Minute})
	r.now += 6 * second
	r.assign(id, 1, "n1")
	r.now += 100 * second
	r.report(id, 1, "n1", AttemptResult{Reason: EndTimeout})
	r.now += 60 * second
	r.ok(CmdTick, nil) // the backoff is over
	if v := r.task(id); v.State != Queued || v.RetryAt != 0 {
		t.Fatalf("after the backoff: %+v", v)
	}
	r.now += 4*second - 1
	r.ok(CmdTick, nil)
	if v := r.task(id); v.State != Queued {
		t.Fatalf("expired too early: %+v", v)
	}
	r.now++
	a := r.batch(cmd(t, CmdTick, RequestID{}, nil))
	if v := r.task(id); v.State != Expired || v.EndReason != EndQueueTimeout {
		t.Fatalf("%+v", v)
	}
	if len(a.Changes) != 1 || a.Changes[0].Kind != ChangeTerminal {
		t.Fatalf("changes: %+v", a.Changes)
	}
	if _, ok := r.s.NextDeadline(); ok {
		t.Fatal("a terminal task has a timer")
	}
}

// The backstop of the run timeout fails the attempt, but nothing else runs
// until the worker's attempt is known to be gone.
// guards P3
func TestRunTimeoutBackstop(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{CPUMillis: 4000, RunTimeout: time.Minute, RetryLimit: 1})
	r.assign(id, 1, "n1")
	r.now += int64(time.Minute + RunTimeoutGrace)
	a := r.batch(cmd(t, CmdTick, RequestID{}, nil))
	if len(a.Changes) != 2 || a.Changes[0].Kind != ChangeRevoked || a.Changes[0].Attempt != 1 || a.Changes[0].Node != "n1" {
		t.Fatalf("changes: %+v", a.Changes)
	}
	if v := r.task(id); v.State != Queued || v.Result.Reason != EndTimeout {
		t.Fatalf("%+v", v)
	}
	r.ok(CmdTick, nil)
	if r.assign(id, 2, "n1") || len(r.s.PlanView(1, 1).Classes) != 0 {
		t.Fatal("assigned while its old attempt may run")
	}
	if n, _ := r.s.Node("n1"); n.UsedCPUMillis != 4000 || n.Superseded != 1 || n.Running != 0 {
		t.Fatalf("%+v", n)
	}
	if r.report(id, 1, "n1", AttemptResult{Reason: EndExit}) {
		t.Fatal("a superseded result took effect")
	}
	if v := r.task(id); v.State != Queued || v.Result.Reason != EndTimeout {
		t.Fatalf("%+v", v)
	}
	if !r.assign(id, 2, "n1") {
		t.Fatal("not assigned after the old attempt was reported")
	}
}

func TestTickIsBounded(t *testing.T) {
	r := newRig(t, Limits{})
	sub := Submit{}
	for range TickBatch + 10 {
		sub.Tasks = append(sub.Tasks, Submission{Shape: Shape{QueueTimeout: time.Second}, Spec: spec(t, "x")})
	}
	r.ok(CmdSubmit, sub)
	r.now += 2 * second
	if n := r.ok(CmdTick, nil).Count; n != TickBatch {
		t.Fatalf("moved %d", n)
	}
	if at, ok := r.s.NextDeadline(); !ok || at > r.now {
		t.Fatalf("next deadline %d %v: want one in the past", at, ok)
	}
	if n := r.ok(CmdTick, nil).Count; n != 10 {
		t.Fatalf("moved %d", n)
	}
}
