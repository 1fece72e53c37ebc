package seccomp

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_AARCH64

var deniedHere []int

var rulesHere = map[int]Rule{
	unix.SYS_SETRLIMIT: {Checks: []Check{
		{Arg: 0, Mask: ^uint32(0), Value: unix.RLIMIT_CORE, Ret: Errno(0)},
	}, Default: RetAllow},
}
