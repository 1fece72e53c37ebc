package seccomp

import "golang.org/x/sys/unix"

const arch = unix.AUDIT_ARCH_X86_64

var deniedHere = []int{
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS_USTAT, unix.SYS_SYSFS, unix.SYS__SYSCTL,
	unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE, unix.SYS_GETPMSG, unix.SYS_PUTPMSG,
	unix.SYS_AFS_SYSCALL, unix.SYS_TUXCALL, unix.SYS_SECURITY, unix.SYS_VSERVER,
}

var rulesHere = map[int]Rule{
	unix.SYS_MKNOD: nodes(1),
	unix.SYS_CHMOD: suid(1),
	unix.SYS_OPEN:  creates(1, 2),
	unix.SYS_CREAT: suid(1),
	unix.SYS_SETRLIMIT: {Checks: []Check{
		{Arg: 0, Mask: ^uint32(0), Value: unix.RLIMIT_CORE, Ret: Errno(0)},
	}, Default: RetAllow},
}
