package sandbox

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// A node that loses its lease kills its sandboxes by itself. A node that is
// stopped (SIGSTOP, a frozen cgroup, a debugger) cannot: its sandboxes are
// other processes and go on, while the cluster gives their tasks to others. So
// the launcher, which is not stopped with it, holds a deadline. When it
// passes, the launcher exits, and being PID 1 takes every sandbox along.

// errHoldOver ends a launcher whose deadline has passed.
var errHoldOver = errors.New("the node has not extended its hold on the sandboxes: all of them end")

// Extend lets the sandboxes live for at least d from now, and, from the first
// call on, no longer than the latest call said. It never blocks.
func (r *Runtime) Extend(d time.Duration) {
	until := bootNanos() + int64(d)
	for old := r.holdUntil.Load(); until > old && !r.holdUntil.CompareAndSwap(old, until); old = r.holdUntil.Load() {
	}
	select {
	case r.holdNews <- struct{}{}:
	default: // news is on its way already
	}
}

// keepHold passes the deadline on to the launcher.
func (r *Runtime) keepHold() {
	for {
		select {
		case <-r.holdNews:
		case <-r.stopHold:
			return
		}
		r.mu.Lock()
		l := r.launcher
		r.mu.Unlock()
		if l == nil || !l.alive() {
			continue // launch tells the next one
		}
		if err := l.hold(r.holdUntil.Load()); err != nil {
			r.log.Warn("the sandboxes' hold was not extended", "error", err)
		}
	}
}

// hold sets the launcher's deadline, in nanoseconds of CLOCK_BOOTTIME, which
// goes on while the machine sleeps.
func (c *launcherClient) hold(until int64) error {
	_, _, err := c.call(request{Kind: kindHold, Until: until}, nil)
	return err
}

// armDeadline bounds the launcher's next wait for a request by its deadline.
func (l *launcher) armDeadline() error {
	if l.until == 0 {
		return nil
	}
	left := l.until - bootNanos()
	if left <= 0 {
		return errHoldOver
	}
	// At least a microsecond: zero means for ever.
	tv := unix.NsecToTimeval(max(left, int64(time.Microsecond)))
	return unix.SetsockoptTimeval(launcherSock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

func bootNanos() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Now().UnixNano() // before Linux 2.6.39
	}
	return ts.Nano()
}
