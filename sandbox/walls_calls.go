package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bad is an address and a descriptor that do not exist: every call below would
// fail for its arguments if it were not refused before.
const bad = ^uintptr(0)

// refused makes a system call and wants the filter's answer. A call that got as
// far as its arguments fails with another error.
func (p *prover) refused(name string, trap uintptr, args ...uintptr) {
	var a [6]uintptr
	copy(a[:], args)
	_, _, e := syscall.RawSyscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
	p.tried(e != unix.EPERM && e != unix.ENOSYS, "make the system call %s (%v)", name, e)
}

func tryMounts(p *prover) {
	p.refused("mount", unix.SYS_MOUNT, bad, bad, bad)
	p.refused("umount2", unix.SYS_UMOUNT2, bad)
	p.refused("pivot_root", unix.SYS_PIVOT_ROOT, bad, bad)
	p.refused("chroot", unix.SYS_CHROOT, bad)
	p.refused("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	p.refused("setns", unix.SYS_SETNS, bad)
	p.refused("open_tree", unix.SYS_OPEN_TREE, bad, bad)
	p.refused("move_mount", unix.SYS_MOVE_MOUNT, bad, bad, bad, bad)
	p.refused("fsopen", unix.SYS_FSOPEN, bad)
	p.refused("fsmount", unix.SYS_FSMOUNT, bad)
	p.refused("fspick", unix.SYS_FSPICK, bad, bad)
	p.refused("mount_setattr", unix.SYS_MOUNT_SETATTR, bad, bad)
}

func tryKeyrings(p *prover) {
	p.refused("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID)
	p.refused("add_key", unix.SYS_ADD_KEY, bad, bad)
	p.refused("request_key", unix.SYS_REQUEST_KEY, bad, bad)
}

func trySystemCalls(p *prover) {
	for _, c := range []struct {
		name string
		trap uintptr
	}{
		{"bpf", unix.SYS_BPF}, {"perf_event_open", unix.SYS_PERF_EVENT_OPEN}, {"userfaultfd", unix.SYS_USERFAULTFD},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP}, {"io_uring_enter", unix.SYS_IO_URING_ENTER}, {"io_uring_register", unix.SYS_IO_URING_REGISTER},
		{"kexec_load", unix.SYS_KEXEC_LOAD}, {"kexec_file_load", unix.SYS_KEXEC_FILE_LOAD},
		{"init_module", unix.SYS_INIT_MODULE}, {"finit_module", unix.SYS_FINIT_MODULE}, {"delete_module", unix.SYS_DELETE_MODULE},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT}, {"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT},
		{"fanotify_init", unix.SYS_FANOTIFY_INIT}, {"swapon", unix.SYS_SWAPON}, {"swapoff", unix.SYS_SWAPOFF},
		{"reboot", unix.SYS_REBOOT}, {"acct", unix.SYS_ACCT}, {"quotactl", unix.SYS_QUOTACTL}, {"syslog", unix.SYS_SYSLOG},
		{"settimeofday", unix.SYS_SETTIMEOFDAY}, {"clock_settime", unix.SYS_CLOCK_SETTIME}, {"adjtimex", unix.SYS_ADJTIMEX},
		{"sethostname", unix.SYS_SETHOSTNAME}, {"setdomainname", unix.SYS_SETDOMAINNAME},
		{"move_pages", unix.SYS_MOVE_PAGES}, {"migrate_pages", unix.SYS_MIGRATE_PAGES},
		{"clone3", unix.SYS_CLONE3}, {"io_setup", unix.SYS_IO_SETUP},
	} {
		p.refused(c.name, c.trap, bad, bad, bad, bad, bad)
	}
}

func trySockets(p *prover) {
	for _, s := range []struct {
		name               string
		family, kind, prot int
	}{
		{"packet", unix.AF_PACKET, unix.SOCK_RAW, 0}, {"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, {"raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP},
		{"netlink audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT},
		{"netlink netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER},
		{"bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 0}, {"tipc", unix.AF_TIPC, unix.SOCK_STREAM, 0},
		{"sctp", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP},
	} {
		fd, err := unix.Socket(s.family, s.kind|unix.SOCK_CLOEXEC, s.prot)
		p.tried(err == nil, "open a socket of %s", s.name)
		if err == nil {
			unix.Close(fd)
		}
	}
}

func tryDevices(p *prover) {
	allowed := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
	err := filepath.WalkDir("/dev", func(path string, _ fs.DirEntry, _ error) error {
		// The folder's list has the types of the files below the mounts.
		if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeDevice != 0 {
			p.tried(!slices.Contains(allowed, path), "find the device %s", path)
		}
		return nil
	})
	p.tried(err != nil || p.Tries != len(allowed), "find %d devices, not %d (%v)", p.Tries, len(allowed), err)
	for name, mode := range map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK} {
		file := "/tmp/holdfast-proof-" + name
		err := unix.Mknod(file, mode|0o600, int(unix.Mkdev(1, 1)))
		p.tried(err == nil, "make a %s device", name)
		os.Remove(file)
	}
	p.refused("ioctl(TIOCSTI)", unix.SYS_IOCTL, 0, unix.TIOCSTI, bad)
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	p.tried(err == nil, "open a terminal")
	f.Close()
}

func tryLimits(p *prover) {
	var core, files unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &core)
	// 0 is as good where the kernel writes a file, which 0 forbids.
	p.tried(err != nil || core.Max > 1 || core.Max == 0 && p.CorePiped, "have a core limit of %d (%v)", core.Max, err)
	err = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	p.tried(err != nil || files.Max > taskFiles, "open %d files (%v)", files.Max, err)
	_, _, e := syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&unix.Rlimit{Cur: taskFiles, Max: taskFiles + 1})), 0, 0, 0)
	p.tried(e == 0, "raise a limit")
	for n := 0; err == nil && n <= watchers; n++ {
		var fd int
		if fd, err = unix.InotifyInit1(unix.IN_CLOEXEC); err == nil {
			defer unix.Close(fd)
		}
	}
	p.tried(err == nil, "take the inotify instances of the host's root")
}

// tryLandlock opens what only Landlock keeps closed, and counts how many more domains its thread can enter: the kernel
// allows 16 on top of each other (64 before 5.19), and the sandbox's own is the
// first.
func tryLandlock(p *prover) {
	if slices.Contains(p.Weaker, abilityLandlock) {
		p.Skipped = "sandbox.allow_missing names it"
		return
	}
	f, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
	p.tried(err == nil, "have the host's processes killed for memory before it")
	f.Close()
	type count struct {
		n int
		e syscall.Errno
	}
	counted := make(chan count)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		n, e := landlockDomains()
		counted <- count{n, e}
	}()
	switch c := <-counted; {
	case c.e == unix.EPERM || c.e == unix.ENOSYS:
		p.Skipped = "the filter refuses the calls that would tell"
	case c.e != unix.E2BIG:
		p.could("not be inspected for Landlock: %v", c.e)
	default:
		p.tried(c.n == 16 || c.n == 64, "run outside of a Landlock domain")
	}
}

func landlockDomains() (int, syscall.Errno) {
	attr := [1]uint64{unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK} // nobody needs it
	fd, _, e := syscall.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if e != 0 {
		return 0, e
	}
	defer unix.Close(int(fd))
	const beyond = 128 // no kernel allows that many
	for n := range beyond {
		if _, _, e := syscall.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); e != 0 {
			return n, e
		}
	}
	return beyond, 0
}
