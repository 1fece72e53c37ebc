package sandbox

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shedMemory keeps the writable memory of this process, but for the image, from
// its children. A fork copies the tables of all that it passes on, and then
// every page that either side writes to: the heap of the Go runtime, which no
// child ever touches, was most of what a fork cost.
//
// What the runtime maps later is passed on again. That costs time and is never
// wrong.
func shedMemory(im *image) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("list the launcher's memory: %w", err)
	}
	keep := uintptr(unsafe.Pointer(im))
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			return fmt.Errorf("list the launcher's memory: line %q: %w", line, err)
		}
		// Code and constants are in files, whose tables no fork copies.
		if len(rights) < 2 || rights[1] != 'w' || from <= keep && keep < to {
			continue
		}
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTFORK); e != 0 {
			return fmt.Errorf("keep %s from children: %w", strings.TrimSpace(line), e)
		}
	}
	return nil
}
