package seccomp

import "golang.org/x/sys/unix"

const (
	// nsFlags are the CLONE_NEW* flags of clone; CLONE_NEWTIME is not among
	// them, as its bit is part of the exit signal there.
	nsFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	// lastCall is the newest call that was looked at: open_tree_attr. Numbers
	// from 424 on are the same on every architecture.
	lastCall  = 467
	tioclinux = 0x541c
)

// Task returns the policy for the command of a sandbox on this architecture.
// A sandbox has no capabilities and nothing of the host, so most of these calls
// would fail without it: the filter keeps the kernel's code behind them out of
// reach.
func Task() Policy {
	p := Policy{Arch: arch, Last: lastCall, Rules: map[int]Rule{}}
	eperm := Errno(unix.EPERM)
	for _, n := range denied {
		p.Rules[n] = Rule{Default: eperm}
	}
	for _, n := range deniedHere {
		p.Rules[n] = Rule{Default: eperm}
	}
	enosys := Rule{Default: Errno(unix.ENOSYS)}
	// Their flags are behind a pointer. Programs fall back to clone and openat.
	p.Rules[unix.SYS_CLONE3] = enosys
	p.Rules[unix.SYS_OPENAT2] = enosys

	var ns []Check
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if nsFlags&bit != 0 {
			ns = append(ns, Check{Arg: 0, Mask: bit, Value: bit, Ret: eperm})
		}
	}
	p.Rules[unix.SYS_CLONE] = Rule{Checks: ns, Default: RetAllow}

	// The kernel's rarer protocol families are where its bugs are.
	var families []Check
	for _, protocol := range []uint32{unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE} {
		// Asking for one makes the kernel load its module.
		families = append(families, Check{Arg: 2, Mask: ^uint32(0), Value: protocol, Ret: Errno(unix.EPROTONOSUPPORT)})
	}
	// Of netlink, only the list of interfaces and addresses (protocol 0).
	families = append(families, Check{Arg: 0, Mask: ^uint32(0), Value: unix.AF_NETLINK, IfArg: 2, IfMask: 1<<32 - 1, Ret: Errno(unix.EPROTONOSUPPORT)})
	for _, f := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK} {
		families = append(families, Check{Arg: 0, Mask: ^uint32(0), Value: f, Ret: RetAllow})
	}
	p.Rules[unix.SYS_SOCKET] = Rule{Checks: families, Default: Errno(unix.EAFNOSUPPORT)}

	// Asking and setting the default are harmless; other execution domains are
	// seldom used code, and one switches off address randomisation.
	p.Rules[unix.SYS_PERSONALITY] = Rule{Checks: []Check{
		{Arg: 0, Mask: ^uint32(0), Value: 0, Ret: RetAllow},
		{Arg: 0, Mask: ^uint32(0), Value: ^uint32(0), Ret: RetAllow},
	}, Default: eperm}

	// Both type into a terminal that somebody else reads.
	p.Rules[unix.SYS_IOCTL] = Rule{Checks: []Check{
		{Arg: 1, Mask: ^uint32(0), Value: unix.TIOCSTI, Ret: eperm},
		{Arg: 1, Mask: ^uint32(0), Value: tioclinux, Ret: eperm},
	}, Default: RetAllow}

	// FIFOs and sockets are made with mknod too: refuse devices alone.
	p.Rules[unix.SYS_MKNODAT] = nodes(2)
	// A writable grant keeps its mode bits on the host, where a setuid file of
	// the folder's owner would be a way to become that owner.
	p.Rules[unix.SYS_FCHMOD] = suid(1)
	p.Rules[unix.SYS_FCHMODAT] = suid(2)
	p.Rules[unix.SYS_FCHMODAT2] = suid(2)
	p.Rules[unix.SYS_OPENAT] = creates(2, 3)

	// A core limit of 1 is the one value at which the kernel runs no core
	// handler on the host. Pretend that the change worked.
	core := Check{Arg: 1, Mask: ^uint32(0), Value: unix.RLIMIT_CORE, Ret: Errno(0)}
	core.IfArg, core.IfMask = 2, ^uint64(0) // only when new limits are given
	p.Rules[unix.SYS_PRLIMIT64] = Rule{Checks: []Check{core}, Default: RetAllow}

	for n, r := range rulesHere {
		p.Rules[n] = r
	}
	return p
}

func suidChecks(arg int) []Check {
	return []Check{
		{Arg: arg, Mask: unix.S_ISUID, Value: unix.S_ISUID, Ret: Errno(unix.EPERM)},
		{Arg: arg, Mask: unix.S_ISGID, Value: unix.S_ISGID, Ret: Errno(unix.EPERM)},
	}
}

// suid refuses the setuid and setgid bits in the mode argument.
func suid(arg int) Rule { return Rule{Checks: suidChecks(arg), Default: RetAllow} }

// creates is suid for calls whose mode counts only when a file is made.
func creates(flags, mode int) Rule {
	checks := suidChecks(mode)
	for i := range checks {
		checks[i].IfArg, checks[i].IfMask = flags, unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY
	}
	return Rule{Checks: checks, Default: RetAllow}
}

func nodes(mode int) Rule {
	eperm := Errno(unix.EPERM)
	return Rule{Checks: append(suidChecks(mode),
		Check{Arg: mode, Mask: unix.S_IFMT, Value: unix.S_IFCHR, Ret: eperm},
		Check{Arg: mode, Mask: unix.S_IFMT, Value: unix.S_IFBLK, Ret: eperm},
	), Default: RetAllow}
}

// denied are the calls that every architecture has.
var denied = []int{
	// mounts and namespaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_TREE_ATTR, unix.SYS_LISTMOUNT, unix.SYS_STATMOUNT,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	// wide interfaces into the kernel
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT,
	unix.SYS_LSM_SET_SELF_ATTR, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_NFSSERVCTL,
	// the machine
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_SYSLOG, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_VHANGUP,
	// placement of memory
	unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_SET_MEMPOLICY_HOME_NODE,
}
