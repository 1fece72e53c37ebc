package seccomp

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Task returns the policy for the command of a sandbox on this architecture.
// A sandbox has no capabilities and nothing of the host, so most of the calls
// that it refuses would fail without it: the filter keeps the kernel's code
// behind them out of reach.
func Task() (Policy, error) { return taskFor(runtime.GOARCH) }

func taskFor(arch string) (Policy, error) {
	table, err := parseTable(callsText)
	if err != nil {
		return Policy{}, err
	}
	for _, a := range architectures {
		if a.name == arch {
			return build(table, taskRules(), a)
		}
	}
	return Policy{}, fmt.Errorf("no table of system calls for %s", arch)
}

const (
	// low is the mask for arguments that the kernel takes as 32-bit numbers:
	// it ignores what is above.
	low = 1<<32 - 1

	// nsFlags are the CLONE_NEW* flags of clone; CLONE_NEWTIME is not among
	// them, as its bit is part of the exit signal there.
	nsFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	suidBits = unix.S_ISUID | unix.S_ISGID
	// makesFile are the flags of open with which its mode counts: O_CREAT and
	// what O_TMPFILE has beside O_DIRECTORY. Both architectures have the same.
	makesFile = unix.O_CREAT | unix.O_TMPFILE&^unix.O_DIRECTORY

	tioclinux   = 0x541c
	typeMask    = 0xf // of a socket's type: SOCK_NONBLOCK and SOCK_CLOEXEC are above
	sockPacket  = 10  // SOCK_PACKET
	prSchedCore = 62  // PR_SCHED_CORE
	shmHugeTLB  = 0o4000
)

// bridges are the requests at which the kernel loads the module of bridges or
// of VLANs for anybody who asks (net/socket.c).
var bridges = []uint64{0x8940, 0x8941, 0x89a0, 0x89a1, 0x8982, 0x8983}

// taskRules are the calls whose arguments decide, by name.
func taskRules() map[string]Rule {
	eperm, noOption := Errno(unix.EPERM), Errno(unix.ENOPROTOOPT)
	rules := map[string]Rule{
		"clone": {Checks: []Check{when(RetAllow, is(0, nsFlags, 0))}, Default: eperm},

		// Asking and setting the default are harmless; other execution domains
		// are seldom used code, and one switches off address randomisation.
		"personality": {Checks: []Check{
			when(RetAllow, is(0, low, 0)), when(RetAllow, is(0, low, low)),
		}, Default: eperm},

		// A cookie of its own makes a processor's other threads idle while the
		// task runs. The error is that of a kernel without core scheduling.
		"prctl": {Checks: []Check{when(Errno(unix.EINVAL), is(0, low, prSchedCore))}, Default: RetAllow},

		// A core limit of 1 is the one value at which the kernel runs no core
		// handler on the host. Pretend that the change worked.
		"setrlimit": {Checks: []Check{when(Errno(0), is(0, low, unix.RLIMIT_CORE))}, Default: RetAllow},
		"prlimit64": {Checks: []Check{when(Errno(0), is(1, low, unix.RLIMIT_CORE), not(2, ^uint64(0), 0))}, Default: RetAllow},

		// The pool of huge pages is the machine's, and charged to no group: a task
		// would take it from the database that it was set up for. The errors are
		// those of a machine that has none.
		"mmap":         {Checks: []Check{when(RetAllow, is(3, unix.MAP_HUGETLB, 0))}, Default: Errno(unix.ENOMEM)},
		"shmget":       {Checks: []Check{when(RetAllow, is(2, shmHugeTLB, 0))}, Default: Errno(unix.ENOMEM)},
		"memfd_create": {Checks: []Check{when(RetAllow, is(1, unix.MFD_HUGETLB, 0))}, Default: Errno(unix.ENODEV)},

		// What waits in a socket's queue of errors is charged to nobody either.
		"setsockopt": {Checks: []Check{
			when(noOption, is(1, low, unix.SOL_IP), is(2, low, unix.IP_RECVERR)),
			when(noOption, is(1, low, unix.SOL_IPV6), is(2, low, unix.IPV6_RECVERR)),
			when(noOption, is(1, low, unix.SOL_SOCKET), is(2, low, unix.SO_TIMESTAMPING)),
			when(noOption, is(1, low, unix.SOL_SOCKET), is(2, low, unix.SO_TIMESTAMPING_NEW)),
		}, Default: RetAllow},

		"socket": sockets(),
		// Its two ends are made before the kernel asks whether the family can
		// have such pairs: what socket refuses must be refused here too.
		"socketpair": {Checks: []Check{when(RetAllow, is(0, low, unix.AF_UNIX))}, Default: Errno(unix.EAFNOSUPPORT)},

		"mknod": nodes(1), "mknodat": nodes(2),
		// A writable grant keeps its mode bits on the host, where a setuid file
		// of the folder's owner would be a way to become that owner.
		"chmod": modes(1), "fchmod": modes(1), "fchmodat": modes(2), "fchmodat2": modes(2),
		"creat": modes(1), "open": opens(1, 2), "openat": opens(2, 3),
	}
	// TIOCSTI and TIOCLINUX type into a terminal that somebody else reads;
	// TIOCSETD loads line disciplines.
	ioctl := Rule{Default: RetAllow}
	for _, request := range []uint64{unix.TIOCSTI, tioclinux, unix.TIOCSETD} {
		ioctl.Checks = append(ioctl.Checks, when(eperm, is(1, low, request)))
	}
	for _, request := range bridges { // the error is that of a kernel without them
		ioctl.Checks = append(ioctl.Checks, when(Errno(unix.ENOPKG), is(1, low, request)))
	}
	rules["ioctl"] = ioctl
	return rules
}

// sockets allows local sockets, TCP and UDP. The kernel's rarer families and
// protocols are where its bugs are, and asking for one makes it load the module.
//
// Not the list of interfaces either, which netlink gives: what a socket of its
// holds of the kernel's memory, up to some MiB each, is charged to nobody, and one
// task could have the machine run out of it. getifaddrs and what is built on it
// fail; names and addresses are resolved without, and /proc/net/dev has the list.
func sockets() Rule {
	badProtocol := Errno(unix.EPROTONOSUPPORT)
	r := Rule{Checks: []Check{
		when(RetAllow, is(0, low, unix.AF_UNIX)),
		when(Errno(unix.ENOSYS), is(0, low, unix.AF_NETLINK), is(2, low, unix.NETLINK_ROUTE)),
		when(badProtocol, is(0, low, unix.AF_NETLINK)),
		when(Errno(unix.EAFNOSUPPORT), not(0, low, unix.AF_INET), not(0, low, unix.AF_INET6)),
		// What the kernel says without the capability. SOCK_PACKET is another
		// way to ask for AF_PACKET, and SOCK_DCCP needs no protocol.
		when(Errno(unix.EPERM), is(1, typeMask, unix.SOCK_RAW)),
		when(Errno(unix.EPERM), is(1, typeMask, sockPacket)),
		when(Errno(unix.ESOCKTNOSUPPORT), not(1, typeMask, unix.SOCK_STREAM), not(1, typeMask, unix.SOCK_DGRAM)),
	}, Default: badProtocol}
	for _, protocol := range []uint64{unix.IPPROTO_IP, unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		r.Checks = append(r.Checks, when(RetAllow, is(2, low, protocol)))
	}
	return r
}

// modes refuses the setuid and setgid bits in the mode argument.
func modes(arg int) Rule {
	return Rule{Checks: []Check{when(RetAllow, is(arg, suidBits, 0))}, Default: Errno(unix.EPERM)}
}

// opens is modes for calls whose mode counts only when a file is made.
func opens(flags, mode int) Rule {
	return Rule{Checks: []Check{
		when(RetAllow, is(flags, makesFile, 0)), when(RetAllow, is(mode, suidBits, 0)),
	}, Default: Errno(unix.EPERM)}
}

// nodes allows FIFOs, sockets and plain files: devices are made with the same
// calls. A type of zero is a plain file.
func nodes(mode int) Rule {
	r := Rule{Default: Errno(unix.EPERM)}
	for _, kind := range []uint64{0, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK} {
		r.Checks = append(r.Checks, when(RetAllow, is(mode, unix.S_IFMT|suidBits, kind)))
	}
	return r
}

func when(ret uint32, all ...Cond) Check { return Check{All: all, Ret: ret} }

func is(arg int, mask, value uint64) Cond { return Cond{Arg: arg, Mask: mask, Value: value} }

func not(arg int, mask, value uint64) Cond {
	return Cond{Arg: arg, Mask: mask, Value: value, Not: true}
}
