package launch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/seccomp.h and linux/audit.h.
const (
	seccompSetModeFilter = 1
	seccompNewListener   = 1 << 3
	seccompRetUserNotify = 0x7fc00000
	seccompRetAllow      = 0x7fff0000
	offsetOfCall         = 0
	offsetOfArchitecture = 4
	auditArchX8664       = 0xc000003e
	auditArchAArch64     = 0xc00000b7
	bpfLoadWord          = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfJumpEqual         = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfReturn            = unix.BPF_RET | unix.BPF_K
	maxWatched           = 64
)

func architecture() (uint32, error) {
	switch runtime.GOARCH {
	case "amd64":
		return auditArchX8664, nil
	case "arm64":
		return auditArchAArch64, nil
	}
	return 0, fmt.Errorf("system calls of %s cannot be supervised", runtime.GOARCH)
}

// filter has the kernel ask before each of these calls of this thread, and of
// what it becomes. It returns the descriptor that answers. Root needs no
// no_new_privs for that, which would change the program.
func filter(watch []uint32) (int, error) {
	if len(watch) > maxWatched {
		return 0, fmt.Errorf("%d calls to supervise, at most %d", len(watch), maxWatched)
	}
	arch, err := architecture()
	if err != nil {
		return 0, err
	}
	n := uint8(len(watch))
	prog := []unix.SockFilter{
		{Code: bpfLoadWord, K: offsetOfArchitecture},
		{Code: bpfJumpEqual, K: arch, Jf: n + 1}, // another architecture: allow
		{Code: bpfLoadWord, K: offsetOfCall},
	}
	for i, call := range watch {
		prog = append(prog, unix.SockFilter{Code: bpfJumpEqual, K: call, Jt: n - uint8(i)})
	}
	prog = append(prog,
		unix.SockFilter{Code: bpfReturn, K: seccompRetAllow},
		unix.SockFilter{Code: bpfReturn, K: seccompRetUserNotify})
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, seccompSetModeFilter, seccompNewListener, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return 0, fmt.Errorf("install a filter that notifies: %w", errno)
	}
	return int(fd), nil
}
