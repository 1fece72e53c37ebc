package consensus

import (
	"testing"
	"time"
)

// The state's time follows the leader's clock, never falls, and does not stand
// still while that clock is behind it.
func TestStampGoesOnWhileTheClockIsBehind(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock, applied := start, int64(0)
	p := newProposer()
	p.now, p.smNow = func() time.Time { return clock }, func() int64 { return applied }
	if got := p.stamp(); got != start.UnixNano() {
		t.Fatalf("stamp %d, want the clock's %d", got, start.UnixNano())
	}
	// Another leader was an hour ahead.
	ahead := start.Add(time.Hour)
	applied = ahead.UnixNano()
	if got := p.stamp(); got != applied {
		t.Fatalf("stamp %d, want the state's %d", got, applied)
	}
	last := applied
	for range 100 { // in small steps, as batches come
		clock = clock.Add(100 * time.Millisecond)
		got := p.stamp()
		if got <= last {
			t.Fatalf("the state's time stands still %v behind", ahead.Sub(clock))
		}
		last = got
	}
	if passed := time.Duration(last - applied); passed != 9*time.Second {
		t.Errorf("%v passed in 10s, want a tenth less", passed)
	}
	// In the end the clock leads again.
	clock = clock.Add(11 * time.Hour)
	if got := p.stamp(); got != clock.UnixNano() {
		t.Errorf("stamp %v, want the clock's %v", time.Unix(0, got), clock)
	}
}
