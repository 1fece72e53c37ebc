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

// timers is a proposer's view of three clocks: the one that is set, the one
// that nobody sets, and the state's.
type timers struct {
	p             *proposer
	wall, elapsed time.Time
	state         time.Time
}

func newTimers() *timers {
	c := &timers{p: newProposer(), wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), elapsed: time.Unix(77, 0)}
	c.p.now = func() time.Time { return c.wall }
	c.p.elapsed = func() time.Time { return c.elapsed }
	c.p.smNow = func() int64 {
		if c.state.IsZero() {
			return 0
		}
		return c.state.UnixNano()
	}
	return c
}

// pass lets time go by on every clock.
func (c *timers) pass(d time.Duration) { c.wall, c.elapsed = c.wall.Add(d), c.elapsed.Add(d) }

// lead stamps a batch and applies it.
func (c *timers) lead() time.Time {
	c.state = time.Unix(0, c.p.stamp()).UTC()
	c.p.witness()
	return c.state
}

// follow applies another leader's batch.
func (c *timers) follow(stamp time.Time) {
	c.state = stamp
	c.p.witness()
}

func TestStampIgnoresAClockThatIsSetForward(t *testing.T) {
	for name, before := range map[string]func(*timers){
		"a leader's": func(c *timers) {
			for range 5 {
				c.lead()
				c.pass(time.Second)
			}
		},
		"a follower's that leads later": func(c *timers) {
			for range 5 {
				c.follow(c.wall)
				c.pass(time.Second)
			}
		},
		"a follower's while it follows": func(c *timers) {
			c.follow(c.wall)
			c.pass(time.Second)
			real := c.wall
			c.wall = c.wall.Add(time.Hour)
			c.follow(real)
			c.wall = real
			c.pass(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTimers()
			before(c)
			due := c.wall
			c.wall = c.wall.Add(time.Hour)
			for range 10 {
				got := c.lead()
				if ahead := got.Sub(due); ahead > 2*time.Second {
					t.Fatalf("the state's time is %v ahead", ahead)
				}
				c.pass(time.Second)
				due = due.Add(time.Second)
			}
			c.wall = due // it is set right
			for range 20 {
				c.pass(time.Second)
				c.lead()
			}
			if off := c.wall.Sub(c.state); off < 0 || off > time.Second {
				t.Errorf("the state's time is %v off once the clock is right", off)
			}
		})
	}
}

func TestStampTakesTheClockAfterAnOutage(t *testing.T) {
	c := newTimers()
	c.lead()
	again := newTimers() // the process starts anew, a night later
	again.wall = c.wall.Add(8 * time.Hour)
	for i := range 5 { // the log is replayed, faster than time passes
		again.follow(c.wall.Add(time.Duration(i) * time.Minute))
		again.pass(time.Millisecond)
	}
	if got := again.lead(); !got.Equal(again.wall) {
		t.Errorf("the state's time is %v, the clock's %v", got, again.wall)
	}
}

func TestStampOfAClockThatNeverAgreed(t *testing.T) {
	c := newTimers()
	for range 5 { // the leaders' clock is an hour behind this one
		c.follow(c.wall.Add(-time.Hour))
		c.pass(time.Second)
	}
	if got := c.lead(); !got.Equal(c.wall) {
		t.Errorf("the state's time is %v, want this node's clock: it cannot know better", got)
	}
}
