package sandbox

import (
	"testing"
	"time"
)

// A node that is stopped extends nothing: its sandboxes must end by
// themselves, and a node that goes on finds its runtime in working order.
// guards P3
func TestSandboxesEndWithTheirHold(t *testing.T) {
	needRoot(t)
	both(t, func(t *testing.T, r *Runtime) {
		r.Extend(time.Hour)
		s, _, _ := start(t, r, shell("trap '' TERM; sleep 1000 & wait"))
		l := r.launcher
		// As if the last extension had been this short, and none followed.
		if err := l.hold(bootNanos() + int64(200*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if res := s.Wait(); res.Reason != EndLost {
			t.Fatalf("ended with %+v", res)
		}
		<-l.dead
		r.Extend(time.Hour)
		next, err := r.Start(t.Context(), withDefaults(shell("exit 3")), Streams{})
		if err != nil {
			t.Fatal(err)
		}
		if res := next.Wait(); res.Reason != EndExit || res.ExitCode != 3 {
			t.Fatalf("the next sandbox ended with %+v", res)
		}
	})
}

// An extension holds: the deadline that it replaced passes without effect.
func TestExtensionReplacesTheDeadline(t *testing.T) {
	needRoot(t)
	r := testRuntime(t, 0)
	first := bootNanos() + int64(300*time.Millisecond)
	if err := r.launcher.hold(first); err != nil {
		t.Fatal(err)
	}
	s, _, _ := start(t, r, shell("sleep 1000"))
	r.Extend(time.Hour)
	eventually(t, "the first deadline", func() bool { return bootNanos() > first+int64(50*time.Millisecond) })
	select {
	case <-s.Done():
		t.Fatalf("ended with %+v", s.Wait())
	default:
	}
	s.Kill(EndCancelled)
	if res := s.Wait(); res.Reason != EndCancelled {
		t.Fatalf("ended with %+v", res)
	}
}
