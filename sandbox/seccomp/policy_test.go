package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What must stay refused, and what must work, whatever becomes of the table's
// shape. By number of this architecture: the constants are the second opinion.
func TestTaskPolicy(t *testing.T) {
	p, err := Task()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	v := newVM(t, prog)
	eperm, enosys := Errno(unix.EPERM), Errno(unix.ENOSYS)
	noProtocol := Errno(unix.EPROTONOSUPPORT)
	const stream, dgram = unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK
	for _, c := range []struct {
		what string
		n    int
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, RetAllow},
		{"execve", unix.SYS_EXECVE, nil, RetAllow},
		{"mount", unix.SYS_MOUNT, nil, eperm},
		{"ptrace", unix.SYS_PTRACE, nil, eperm},
		{"bpf", unix.SYS_BPF, nil, eperm},
		{"io_uring", unix.SYS_IO_URING_SETUP, nil, eperm},
		{"clone3", unix.SYS_CLONE3, nil, enosys},
		{"openat2", unix.SYS_OPENAT2, nil, enosys},
		{"fork", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD)}, RetAllow},
		{"fork with rubbish above", unix.SYS_CLONE, []uint64{uint64(unix.SIGCHLD) | unix.CLONE_NEWUSER<<32}, RetAllow},
		{"thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, RetAllow},
		{"new user namespace", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, eperm},
		{"new network", unix.SYS_CLONE, []uint64{unix.CLONE_NEWNET}, eperm},
		{"local", unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET}, RetAllow},
		{"tcp", unix.SYS_SOCKET, []uint64{unix.AF_INET, stream}, RetAllow},
		{"tcp by number", unix.SYS_SOCKET, []uint64{unix.AF_INET6, stream, unix.IPPROTO_TCP}, RetAllow},
		{"udp", unix.SYS_SOCKET, []uint64{unix.AF_INET6, dgram, unix.IPPROTO_UDP}, RetAllow},
		{"packet", unix.SYS_SOCKET, []uint64{unix.AF_PACKET}, Errno(unix.EAFNOSUPPORT)},
		{"packet by its old name", unix.SYS_SOCKET, []uint64{unix.AF_INET, 10}, eperm},
		{"raw", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, eperm},
		{"dccp without a protocol", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_DCCP}, Errno(unix.ESOCKTNOSUPPORT)},
		{"sctp", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, noProtocol},
		{"l2tp", unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 115}, noProtocol},
		{"mptcp", unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, noProtocol},
		{"interfaces", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, enosys},
		{"queue of errors", unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_IP, unix.IP_RECVERR}, Errno(unix.ENOPROTOOPT)},
		{"queue of errors, newer", unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_IPV6, unix.IPV6_RECVERR}, Errno(unix.ENOPROTOOPT)},
		{"time stamps", unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_TIMESTAMPING}, Errno(unix.ENOPROTOOPT)},
		{"another option of the same number", unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_TCP, unix.IP_RECVERR}, RetAllow},
		{"reuse", unix.SYS_SETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR}, RetAllow},
		{"netfilter", unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, noProtocol},
		{"alg", unix.SYS_SOCKET, []uint64{unix.AF_ALG}, Errno(unix.EAFNOSUPPORT)},
		{"alg with high bits", unix.SYS_SOCKET, []uint64{unix.AF_ALG | 1<<40}, Errno(unix.EAFNOSUPPORT)},
		{"pair", unix.SYS_SOCKETPAIR, []uint64{unix.AF_UNIX, stream}, RetAllow},
		{"pair of tipc", unix.SYS_SOCKETPAIR, []uint64{unix.AF_TIPC, stream}, Errno(unix.EAFNOSUPPORT)},
		{"TIOCSTI", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, eperm},
		{"TIOCSTI with high bits", unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI | 1<<32}, eperm},
		{"isatty", unix.SYS_IOCTL, []uint64{0, unix.TCGETS}, RetAllow},
		{"module of bridges", unix.SYS_IOCTL, []uint64{0, unix.SIOCBRADDBR}, Errno(unix.ENOPKG)},
		{"module of VLANs", unix.SYS_IOCTL, []uint64{0, unix.SIOCGIFVLAN}, Errno(unix.ENOPKG)},
		{"fifo", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFIFO | 0o600}, RetAllow},
		{"socket file", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFSOCK | 0o600}, RetAllow},
		{"plain file", unix.SYS_MKNODAT, []uint64{0, 0, 0o600}, RetAllow},
		{"setuid fifo", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFREG | 0o4600}, eperm},
		{"block device", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFBLK | 0o600}, eperm},
		{"character device", unix.SYS_MKNODAT, []uint64{0, 0, unix.S_IFCHR | 0o600}, eperm},
		{"setuid", unix.SYS_FCHMODAT, []uint64{0, 0, 0o4755}, eperm},
		{"setuid, newer", unix.SYS_FCHMODAT2, []uint64{0, 0, 0o4755}, eperm},
		{"setgid", unix.SYS_FCHMOD, []uint64{0, 0o2755}, eperm},
		{"chmod", unix.SYS_FCHMODAT, []uint64{0, 0, 0o755}, RetAllow},
		{"sticky", unix.SYS_FCHMODAT, []uint64{0, 0, 0o1777}, RetAllow},
		{"create setuid", unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT, 0o4755}, eperm},
		{"unnamed setuid", unix.SYS_OPENAT, []uint64{0, 0, unix.O_TMPFILE | unix.O_WRONLY, 0o4755}, eperm},
		{"create", unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT | unix.O_WRONLY, 0o755}, RetAllow},
		{"open a folder with rubbish", unix.SYS_OPENAT, []uint64{0, 0, unix.O_DIRECTORY, 0o4755}, RetAllow},
		{"set core limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 1 << 32}, Errno(0)},
		{"get core limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_CORE, 0}, RetAllow},
		{"set other limit", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE, 8}, RetAllow},
		{"execution domain", unix.SYS_PERSONALITY, []uint64{0xffffffff}, RetAllow},
		{"no randomisation", unix.SYS_PERSONALITY, []uint64{0x40000}, eperm},
		{"core scheduling", unix.SYS_PRCTL, []uint64{unix.PR_SCHED_CORE, 1}, Errno(unix.EINVAL)},
		{"dumpable", unix.SYS_PRCTL, []uint64{unix.PR_SET_DUMPABLE}, RetAllow},
		{"memory", unix.SYS_MMAP, []uint64{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, RetAllow},
		{"huge memory", unix.SYS_MMAP, []uint64{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB}, Errno(unix.ENOMEM)},
		{"huge segment", unix.SYS_SHMGET, []uint64{0, 4096, 0o4600}, Errno(unix.ENOMEM)},
		{"segment", unix.SYS_SHMGET, []uint64{0, 4096, 0o1600}, RetAllow},
		{"huge file", unix.SYS_MEMFD_CREATE, []uint64{0, unix.MFD_HUGETLB | unix.MFD_CLOEXEC}, Errno(unix.ENODEV)},
		{"file in memory", unix.SYS_MEMFD_CREATE, []uint64{0, unix.MFD_CLOEXEC}, RetAllow},
		{"asynchronous IO", unix.SYS_IO_SETUP, []uint64{1}, enosys},
		{"a call of the future", 900, nil, enosys},
	} {
		if got := v.call(t, p.Arch, c.n, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
	}
}
