package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The probes run inside a sandbox and say on stdout what they could do.
var probes = map[string]func(args []string){
	"open":    probeOpen,
	"fds":     probeFDs,
	"status":  probeStatus,
	"write":   probeWrite,
	"calls":   probeCalls,
	"dial":    probeDial,
	"listen":  probeListen,
	"self":    probeSelf,
	"forks":   probeForks,
	"memory":  probeMemory,
	"spin":    probeSpin,
	"signals": probeSignals,
	"mode":    probeMode,
	"escape":  probeEscape,
	"userns":  probeUserNS,
	"limits":  probeLimits,
	"pass":    probePass,
}

func init() {
	for name, f := range attackProbes {
		probes[name] = f
	}
}

func runProbe(name string, args []string) {
	f, ok := probes[name]
	if !ok {
		fmt.Println("no such probe", name)
		os.Exit(99)
	}
	f(args)
}

func errno(err error) string {
	if err == nil {
		return "ok"
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// probeOpen tries to open every path for reading.
func probeOpen(paths []string) {
	for _, p := range paths {
		f, err := os.Open(p)
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(f, 1))
			f.Close()
		}
		fmt.Println(p, errno(err))
	}
}

// probeFDs lists what is open, but for the listing itself.
func probeFDs([]string) {
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			to, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
			if !strings.HasPrefix(to, "anon_inode:[event") { // Go's own poller
				fmt.Println(fd)
			}
		}
	}
}

func probeStatus([]string) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
	}
	for l := range strings.Lines(string(b)) {
		fmt.Println(strings.Join(strings.Fields(l), " "))
	}
}

// probeWrite tries to create a file in every folder, and to write to every file.
func probeWrite(paths []string) {
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil && st.IsDir() {
			p = filepath.Join(p, "holdfast-was-here")
		}
		f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			_, err = f.WriteString("x")
			f.Close()
		}
		fmt.Println(p, errno(err))
	}
}

func probeCalls([]string) {
	raw := func(name string, trap uintptr, args ...uintptr) {
		var a [6]uintptr
		copy(a[:], args)
		_, _, e := syscall.RawSyscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
		if e == 0 {
			fmt.Println(name, "ok")
			return
		}
		fmt.Println(name, unix.ErrnoName(e))
	}
	raw("mount", unix.SYS_MOUNT)
	raw("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	raw("setns", unix.SYS_SETNS, 0, 0)
	raw("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME)
	raw("bpf", unix.SYS_BPF)
	raw("keyctl", unix.SYS_KEYCTL)
	raw("io_uring_setup", unix.SYS_IO_URING_SETUP)
	raw("perf_event_open", unix.SYS_PERF_EVENT_OPEN)
	raw("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT)
	raw("clone3", unix.SYS_CLONE3)
	raw("unknown", 5000)
	raw("socket-packet", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0)
	raw("socket-vsock", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	fmt.Println("mkfifo", errno(unix.Mkfifo("/tmp/fifo", 0o600)))
	fmt.Println("mknod-char", errno(unix.Mknod("/tmp/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))))
	fmt.Println("chmod", errno(os.WriteFile("/tmp/file", nil, 0o600)), errno(unix.Fchmodat(unix.AT_FDCWD, "/tmp/file", 0o755, 0)))
	fmt.Println("chmod-suid", errno(unix.Fchmodat(unix.AT_FDCWD, "/tmp/file", 0o4755, 0)))
	_, err := unix.Openat(unix.AT_FDCWD, "/tmp/suid", unix.O_CREAT|unix.O_WRONLY, 0o4755)
	fmt.Println("create-suid", errno(err))
	raw("open-mode-ignored", unix.SYS_OPENAT, ^uintptr(99), uintptr(unsafe.Pointer(&[]byte("/tmp/file\x00")[0])), unix.O_RDONLY, 0o4755)
	fmt.Println("core-limit", errno(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})))
	var lim unix.Rlimit
	fmt.Println("core-limit-is", errno(unix.Getrlimit(unix.RLIMIT_CORE, &lim)), lim.Cur, lim.Max)
}

func probeDial(args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		c, err := net.DialTimeout(args[i], args[i+1], 2*time.Second)
		if err == nil {
			c.Close()
		}
		fmt.Println(args[i], args[i+1], errno(err))
	}
	list, err := interfaces()
	for _, name := range list {
		fmt.Println("interface", name)
	}
	if err != nil {
		fmt.Println("interfaces", errno(err))
	}
}

// probeListen listens until it is killed.
func probeListen(args []string) {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		fmt.Println(errno(err))
		return
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
	}
}

// probeForks counts how many children it can have, up to a bound.
func probeForks(args []string) {
	bound, _ := strconv.Atoi(args[0])
	n := 0
	for ; n < bound; n++ {
		if err := exec.Command("/bin/sleep", "1000").Start(); err != nil {
			fmt.Println("refused", errno(err))
			break
		}
	}
	fmt.Println("children", n)
}

// probeMemory touches so many MiB and says so.
func probeMemory(args []string) {
	mib, _ := strconv.Atoi(args[0])
	var hold [][]byte
	for range mib {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		hold = append(hold, b)
	}
	fmt.Println("touched", len(hold))
}

func probeSpin([]string) {
	for {
		_ = unsafe.Sizeof(0)
	}
}

// probeSignals tries to signal every process number that a host could have.
func probeSignals([]string) {
	self := os.Getpid()
	hits := 0
	for pid := 1; pid < 1<<16; pid++ {
		if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(pid)); err != nil && unix.Kill(pid, 0) == nil {
			fmt.Println("reached", pid)
			hits++
		}
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != self {
			fmt.Println("sees", pid)
		}
	}
	fmt.Println("hits", hits)
}

func probeMode(paths []string) {
	for _, p := range paths {
		var st unix.Stat_t
		err := unix.Stat(p, &st)
		fmt.Println(p, errno(err), st.Uid, st.Gid)
	}
}

// probeEscape tries the old ways out of a root.
func probeEscape(args []string) {
	secret := args[0]
	up := strings.Repeat("../", 40)
	for _, p := range []string{
		secret, up + secret, "/proc/self/root" + secret, "/proc/1/root" + secret, "/proc/2/root" + secret,
		"/proc/self/cwd/" + up + secret, "/dev/fd/0/" + up + secret, "/proc/thread-self/root" + secret,
	} {
		_, err := os.ReadFile(p)
		fmt.Println("read", errno(err))
	}
	link := "/tmp/link"
	fmt.Println("symlink", errno(os.Symlink(secret, link)))
	_, err := os.ReadFile(link)
	fmt.Println("read", errno(err))
	root, err := os.Open("/")
	if err == nil {
		fmt.Println("chroot", errno(unix.Chroot("/tmp")))
		fmt.Println("fchdir", errno(root.Chdir()))
		_, err = os.ReadFile(up + secret)
	}
	fmt.Println("read", errno(err))
	entries, err := os.ReadDir("/")
	for _, e := range entries {
		fmt.Println("root", e.Name())
	}
	fmt.Println("list", errno(err))
	for _, exe := range []string{"/proc/1/exe", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps"} {
		_, err := os.ReadFile(exe)
		fmt.Println("init", errno(err))
	}
}

// probeUserNS tries to become root of a new user namespace.
func probeUserNS([]string) {
	_, _, e := syscall.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
	if e == 0 {
		fmt.Println("unshare ok")
		return
	}
	// A process with threads gets EINVAL whatever is allowed: clone a new one.
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	fmt.Println("clone", errno(cmd.Run()))
}

func probeLimits([]string) {
	for _, r := range []int{unix.RLIMIT_NOFILE, unix.RLIMIT_CORE, unix.RLIMIT_MEMLOCK} {
		var l unix.Rlimit
		_ = unix.Getrlimit(r, &l)
		fmt.Println(r, l.Max)
	}
}

// probePass sends its stdout to a socket in a granted folder and ends.
func probePass(args []string) {
	c, err := net.Dial("unix", args[0])
	if err != nil {
		fmt.Println("dial", errno(err))
		return
	}
	uc := c.(*net.UnixConn)
	_, _, err = uc.WriteMsgUnix([]byte("x"), unix.UnixRights(1), nil)
	fmt.Println("passed", errno(err))
	_, _ = bufio.NewReader(c).ReadString('\n') // until the other side has it
}
