package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// The kernel takes a time namespace's offsets for the first thread of a process
// alone, and Go's main function may have left it when it could ask for it.
func init() {
	if len(os.Args) == 1 && os.Args[0] == launcherName {
		runtime.LockOSThread()
	}
}

// clockStart is what the sandboxes' clocks show when their launcher starts, in
// seconds: above zero, which some programs take for "never".
const clockStart = 60

// ownClock makes a time namespace for the sandboxes: in there the monotonic and
// the boot clock began with the launcher, so that no task learns how long the
// machine has been up and which tasks share a machine. The launcher stays where
// it is: its deadlines are of the machine's clock.
func ownClock() error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make a time namespace: %w", err)
	}
	var text string
	for name, clock := range map[string]int32{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME} {
		var now unix.Timespec
		if err := unix.ClockGettime(clock, &now); err != nil {
			return fmt.Errorf("read the %s clock: %w", name, err)
		}
		text += fmt.Sprintf("%s %d 0\n", name, clockStart-now.Sec)
	}
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(text), 0); err != nil {
		return fmt.Errorf("set the clocks of the time namespace: %w", err)
	}
	return nil
}
