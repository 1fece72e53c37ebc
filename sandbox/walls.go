package sandbox

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// walls are the ways out that the prover tries, in the order of the report.
// Nothing is ever written to a file of the kernel: opening it says enough.
var walls = []struct {
	name, tries string
	try         func(*prover)
}{
	{"identity", "have a capability, another user, or do without no_new_privs and seccomp", tryIdentity},
	{"inheritance", "find descriptors or variables of the node", tryInheritance},
	{"namespaces", "share a namespace with the node or with another sandbox", tryNamespaces},
	{"user_namespaces", "make a user namespace below, to be root of it", tryUserNamespaces},
	{"host_files", "see files of the host, by .., links and /proc", tryHostFiles},
	{"host_processes", "see processes of the host", tryHostProcesses},
	{"signals", "reach processes of the host with signals", trySignals},
	{"ptrace", "trace, read or write another process", tryPtrace},
	{"network", "connect to the host, or have more than loopback", tryNetwork},
	{"sockets", "use raw, packet and rare socket families", trySockets},
	{"mounts", "mount, unmount, pivot or enter namespaces", tryMounts},
	{"read_only_root", "change the system's folders", tryReadOnlyRoot},
	{"sysctls", "open any file of /proc/sys for writing", trySysctls},
	{"kernel_files", "open any other file of /proc for writing, or find /sys", tryKernelFiles},
	{"kernel_memory", "read /proc/kcore, /proc/kmsg, /dev/mem and the like", tryKernelMemory},
	{"devices", "find or make devices, or type into a terminal", tryDevices},
	{"keyrings", "use the kernel's keyrings", tryKeyrings},
	{"system_calls", "make system calls that are refused", trySystemCalls},
	{"limits", "raise a limit, or have the host handle a core dump", tryLimits},
	{"landlock", "run outside of a Landlock domain", tryLandlock}, // last: it binds its thread
}

func tryIdentity(p *prover) {
	b, err := os.ReadFile("/proc/thread-self/status")
	p.tried(err != nil, "not be inspected: %v", err)
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapBnd": "0", "CapAmb": "0"}
	for l := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), ":\t")
		if w, ok := want[k]; ok {
			p.tried(strings.TrimLeft(v, "0") != strings.TrimLeft(w, "0"), "run with %s %s", k, v)
			delete(want, k)
		}
	}
	for k := range want {
		p.could("hide its %s", k)
	}
	for _, file := range []string{"uid_map", "gid_map"} {
		m, err := os.ReadFile("/proc/self/" + file)
		f := strings.Fields(string(m))
		p.tried(err != nil || len(f) != 3 || f[0] != strconv.Itoa(taskID) || f[2] != "1", "be others: %s %q, %v", file, m, err)
	}
	p.tried(syscall.Setuid(0) == nil, "become root")
	groups, err := os.Getgroups()
	p.tried(err != nil || len(groups) > 0, "have the groups %v, %v", groups, err)
}

func tryInheritance(p *prover) {
	for fd := 3; fd < 1024; fd++ {
		to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		own := strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "/proc/") // Go's poller, and the link itself
		p.tried(err == nil && !own, "use an inherited descriptor of %s", to)
	}
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		p.tried(!slices.Contains(proverEnv, e), "read the variable %s", name)
	}
}

func tryNamespaces(p *prover) {
	for whose, theirs := range map[string]map[string]string{"the node": p.Namespaces, "all sandboxes": p.Launcher} {
		for _, ns := range namespaces {
			id, asked := theirs[ns]
			if !asked {
				continue
			}
			own, err := os.Readlink("/proc/self/ns/" + ns)
			p.tried(err != nil || own == id || own == "", "share the %s namespace of %s (%s, %v)", ns, whose, own, err)
		}
	}
}

func tryUserNamespaces(p *prover) {
	limit, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	p.tried(err != nil || strings.TrimSpace(string(limit)) != "0", "make user namespaces: %q, %v", limit, err)
	p.refused("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 && pid == 0 {
		// The child of a raw fork, should there ever be one, must do nothing.
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	p.tried(e == 0, "clone a process into a user namespace")
}

func tryHostFiles(p *prover) {
	for _, path := range p.Hidden {
		for _, prefix := range []string{"", "/proc/self/root", "/proc/1/root", "/proc/self/cwd/..", "/dev/fd/0/..", strings.Repeat("/..", 32)} {
			_, err := os.Lstat(prefix + path)
			p.tried(err == nil, "see %s%s of the host", prefix, path)
		}
		link := "/tmp/holdfast-proof-link"
		if os.Symlink(path, link) == nil {
			_, err := os.Stat(link)
			p.tried(err == nil, "follow a link to %s of the host", path)
			os.Remove(link)
		}
	}
}

func tryHostProcesses(p *prover) {
	entries, err := os.ReadDir("/proc")
	p.tried(err != nil, "have no /proc: %v", err)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			p.tried(pid != os.Getpid(), "see process %d", pid)
		}
	}
}

// pidsTried covers every number that a sandbox's own few processes could have,
// and those of a small host.
const pidsTried = 4096

func trySignals(p *prover) {
	own := func(pid int) bool { _, err := os.Stat("/proc/self/task/" + strconv.Itoa(pid)); return err == nil }
	pids := slices.Clone(p.PIDs)
	for pid := 2; pid < pidsTried; pid++ { // 1 is the sandbox's own init
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if pid > 1 {
			// Even a refusal would tell that it is there.
			p.tried(unix.Kill(pid, 0) != unix.ESRCH && !own(pid), "send signals to process %d", pid)
		}
	}
	p.tried(unix.Kill(-1, 0) == nil, "send signals to all processes")
}

func tryPtrace(p *prover) {
	p.refused("ptrace", unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1)
	p.refused("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1)
	p.refused("process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, 1)
	p.refused("pidfd_getfd", unix.SYS_PIDFD_GETFD, ^uintptr(0))
	p.refused("kcmp", unix.SYS_KCMP, 1, 1)
	for _, file := range []string{"mem", "environ", "maps", "exe", "cwd", "fd/0", "map_files"} {
		f, err := os.Open("/proc/1/" + file)
		p.tried(err == nil, "open %s of its init", file)
		f.Close()
	}
}

func tryNetwork(p *prover) {
	for _, d := range p.Dial {
		conn, err := net.DialTimeout(d[0], d[1], time.Second)
		p.tried(err == nil, "connect to %s on the host", d[1])
		if err == nil {
			conn.Close()
		}
	}
	for _, ip := range p.Unreachable {
		// Nothing need listen: who refuses a connection was reached.
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "9"), time.Second)
		p.tried(err == nil || errors.Is(err, unix.ECONNREFUSED), "reach %s of the host", ip)
		if err == nil {
			conn.Close()
		}
	}
	list, err := interfaces()
	p.tried(err != nil || slices.ContainsFunc(list, func(name string) bool { return name != "lo" }), "use the network: %v, %v", list, err)
}

// interfaces lists the names of all. Netlink, which net.Interfaces asks, is
// closed to tasks.
func interfaces() (names []string, err error) {
	b, err := os.ReadFile("/proc/self/net/dev")
	for l := range strings.Lines(string(b)) {
		if name, _, ok := strings.Cut(l, ":"); ok { // not the two lines of headings
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names, err
}

func tryReadOnlyRoot(p *prover) {
	for _, dir := range []string{"/", "/usr", "/etc", "/dev", "/proc/sys"} {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		p.tried(err != nil || st.Flags&unix.ST_RDONLY == 0, "have %s writable (%v)", dir, err)
	}
	for _, path := range []string{"/", "/usr", "/usr/bin", "/etc", "/dev", "/proc/sys/kernel", "/etc/passwd", "/bin/sh", "/proof"} {
		p.tried(unix.Access(path, unix.W_OK) == nil, "write to %s", path)
	}
}

func trySysctls(p *prover) { p.openAll("/proc/sys", nil) }

func tryKernelFiles(p *prover) {
	p.openAll("/proc", func(path string) bool {
		_, err := strconv.Atoi(filepath.Base(path))
		return err == nil || path == "/proc/sys" // its own process, and trySysctls
	})
	_, err := os.Lstat("/sys")
	p.tried(err == nil, "find /sys")
}

// openAll opens every file below dir for writing, and writes to none.
func (p *prover) openAll(dir string, skip func(path string) bool) {
	files := 0
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be listed cannot be opened by a name found there
		}
		if e.IsDir() {
			if skip != nil && skip(path) {
				return filepath.SkipDir
			}
			return nil
		}
		files++
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		p.tried(err == nil && !covered(f), "open %s for writing", path)
		f.Close()
		return nil
	})
	p.tried(files == 0, "hide the files of %s", dir)
}

// covered says whether a file is the device that masks are made of.
func covered(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&fs.ModeCharDevice != 0 && st.Sys().(*syscall.Stat_t).Rdev == unix.Mkdev(1, 3)
}

func tryKernelMemory(p *prover) {
	for _, path := range []string{
		"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/cmdline",
		"/proc/interrupts", "/proc/sys/kernel/random/boot_id", "/proc/kpagecount", "/proc/kpageflags", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/1/mem", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg",
	} {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			p.Tries++
			continue
		}
		n, err := f.Read(make([]byte, 1))
		p.tried(n > 0 || err != nil && !errors.Is(err, io.EOF), "read %s", path)
		f.Close()
	}
}
