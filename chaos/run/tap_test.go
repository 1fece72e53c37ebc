package run

import (
	"testing"
	"time"

	"holdfast/chaos/history"
)

func TestTap(t *testing.T) {
	tp := newTap()
	write := func(at time.Duration, op history.Op, k history.Kind) {
		tp.see(&history.Event{At: int64(at), Op: op, Kind: k})
	}
	sample := func(term uint64, leader string) {
		tp.see(&history.Event{Kind: history.Sample, State: &history.State{Term: term, Leader: leader}})
	}
	// Reads and beginnings are no answers; what is older than asked for is out.
	write(0, history.Submit, history.OK)
	write(time.Second, history.Submit, history.Invoke)
	write(time.Second, history.Get, history.OK)
	write(2*time.Second, history.Submit, history.OK)
	write(2*time.Second, history.Probe, history.OK)
	write(3*time.Second, history.Probe, history.Unknown)
	write(3*time.Second, history.Submit, history.Refused)
	acked, lost := tp.rates(time.Second, 3*time.Second)
	if acked != 1 || lost != 0.5 {
		t.Errorf("%v writes per second and %v of the probes lost, want 1 and a half", acked, lost)
	}
	if tp.acked != 3 {
		t.Errorf("%d acknowledged", tp.acked)
	}
	// Elections before the faults are not counted, nor is one leader twice.
	sample(3, "n1")
	tp.begin()
	sample(3, "n1")
	sample(5, "n2")
	sample(5, "n2")
	sample(6, "") // nobody yet
	sample(4, "n3")
	if tp.changes != 2 {
		t.Errorf("%d changes of the leader, want those to terms 4 and 5", tp.changes)
	}
	// The window is bounded.
	for i := range 5000 {
		write(4*time.Second+time.Duration(i)*10*time.Millisecond, history.Probe, history.OK)
	}
	if n := len(tp.window); n > 2*int(kept/(10*time.Millisecond))+1 {
		t.Errorf("%d beats are kept", n)
	}
}
