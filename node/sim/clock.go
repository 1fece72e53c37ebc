package sim

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// clock is one machine's. Simulated time is the truth; the machine's wall clock
// is set forward and back, and its monotonic one runs a little fast or slow.
// While its processes are frozen it stands still for them: a goroutine that
// read it just before acts on that reading when it goes on.
type clock struct {
	start  time.Time
	rate   int64        // parts per million that it runs too fast
	offset atomic.Int64 // of the wall clock, nanoseconds
	frozen atomic.Int64 // monotonic reading to show; 0 = it runs
}

func newClock(rate int64) *clock { return &clock{start: time.Now(), rate: rate} }

func (c *clock) mono() int64 {
	if at := c.frozen.Load(); at != 0 {
		return at
	}
	d := int64(time.Since(c.start))
	return 1 + d + d/1_000_000*c.rate
}

func (c *clock) freeze() { c.frozen.Store(c.mono()) }
func (c *clock) thaw()   { c.frozen.Store(0) }

// jump sets the wall clock.
func (c *clock) jump(d time.Duration) { c.offset.Add(int64(d)) }

// now is what time.Now would say on this machine: a wall and a monotonic
// reading. testing/synctest's time has no monotonic part, and nothing in
// package time can make one, so the fields are written as package time lays
// them out; a test holds it to that.
func (c *clock) now() time.Time {
	mono := c.mono()
	wall := c.start.UnixNano() + mono + c.offset.Load()
	return withMonotonic(wall, mono)
}

// timeFields mirrors time.Time.
type timeFields struct {
	wall uint64
	ext  int64
	loc  *time.Location
}

const (
	hasMonotonic = 1 << 63
	nsecBits     = 30
	year1885     = -2682288000 // 1885-01-01 in Unix seconds, where wall counts from
)

func withMonotonic(unixNano, mono int64) time.Time {
	sec, nsec := unixNano/1e9, unixNano%1e9
	f := timeFields{wall: hasMonotonic | uint64(sec-year1885)<<nsecBits | uint64(nsec), ext: mono}
	return *(*time.Time)(unsafe.Pointer(&f))
}
