package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The attackers: they run inside a sandbox, in the place of a task.
var attackProbes = map[string]func(args []string){
	"filter":     probeFilter,
	"namespaces": probeNamespaces,
	"mounts":     probeMounts,
	"others":     probeOthers,
	"interfaces": probeInterfaces,
	"init":       probeInit,
	"terminal":   probeTerminal,
	"priorities": probePriorities,
	"hostname":   probeHostname,
	"handles":    probeHandles,
	"netlink":    probeNetlink,
	"pairs":      probePairs,
	"raw":        probeRaw,
}

func tell(what string, err error) { fmt.Println(what, errno(err)) }

// tellCall makes a system call and tells its result.
func tellCall(what string, trap uintptr, args ...uintptr) (uintptr, bool) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := syscall.Syscall6(trap, a[0], a[1], a[2], a[3], a[4], a[5])
	if e != 0 {
		fmt.Println(what, unix.ErrnoName(e))
		return 0, false
	}
	fmt.Println(what, "ok")
	return r, true
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

func cstring(s string) uintptr { return uintptr(unsafe.Pointer(&append([]byte(s), 0)[0])) }

// askMark is the sixth argument of calls that probeFilter makes.
const askMark = 0x686f6c64

// probeFilter asks the kernel what becomes of system calls, "name=number" or
// "name=number,arg,arg...", without any being carried out. It puts a filter of
// its own below the sandbox's, which hands marked calls to this process. The
// kernel runs all filters and takes the strictest answer: what the sandbox
// refuses gets its error, and what would pass comes here.
func probeFilter(calls []string) {
	listener, results := make(chan int), make(chan string)
	go func() {
		runtime.LockOSThread() // the filter is this thread's
		fd, err := askFilter()
		if err != nil {
			fmt.Println("listener", err)
			os.Exit(3)
		}
		listener <- fd
		for _, c := range calls {
			name, rest, _ := strings.Cut(c, "=")
			var a [7]uintptr // number and arguments
			for i, v := range strings.Split(rest, ",") {
				n, _ := strconv.ParseUint(v, 0, 64)
				a[i] = uintptr(n)
			}
			_, _, e := syscall.Syscall6(a[0], a[1], a[2], a[3], a[4], a[5], askMark)
			answer := unix.ErrnoName(e)
			switch e {
			case unix.EXFULL:
				answer = "passed"
			case 0:
				answer = "pretended"
			}
			results <- name + " " + answer
		}
		close(results)
	}()
	go answerAll(<-listener)
	for r := range results {
		fmt.Println(r)
	}
}

// askFilter installs the filter and returns its listener.
func askFilter() (int, error) {
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16 + 5*8},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: askMark, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	fd, _, e := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&fprog)))
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}

// answerAll fails every call that comes with EXFULL, which no system call of
// the kernel says by itself.
func answerAll(fd int) {
	const recv, send = 0xc0502100, 0xc0182101 // SECCOMP_IOCTL_NOTIF_RECV and _SEND
	for {
		var req struct {
			id   uint64
			rest [72]byte
		}
		if _, _, e := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), recv, uintptr(unsafe.Pointer(&req))); e != 0 {
			continue // interrupted, or the call was
		}
		resp := struct {
			id    uint64
			val   int64
			err   int32
			flags uint32
		}{id: req.id, err: -int32(unix.EXFULL)}
		_, _, _ = syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), send, uintptr(unsafe.Pointer(&resp)))
	}
}

// probeNamespaces tries to make every kind, and to enter one.
func probeNamespaces([]string) {
	for _, ns := range []struct {
		name string
		flag uintptr
	}{
		{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID}, {"net", unix.CLONE_NEWNET},
		{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP},
	} {
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: ns.flag}
		tell("clone-"+ns.name, cmd.Run())
	}
	runtime.LockOSThread()
	tell("unshare-uts", unix.Unshare(unix.CLONE_NEWUTS))
	f, err := os.Open("/proc/self/ns/uts")
	if err == nil {
		err = unix.Setns(int(f.Fd()), unix.CLONE_NEWUTS)
	}
	tell("setns-uts", err)
	tell("unshare-time", unix.Unshare(unix.CLONE_NEWTIME))
}

func probeMounts([]string) {
	dir := "/tmp/m"
	_ = os.Mkdir(dir, 0o755)
	tell("mount", unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	tell("bind", unix.Mount("/usr", dir, "", unix.MS_BIND, ""))
	tell("umount", unix.Unmount(dir, unix.MNT_DETACH))
	tell("remount", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	tellCall("fsopen", unix.SYS_FSOPEN, cstring("tmpfs"), 0)
	at := unix.AT_FDCWD
	tellCall("open_tree", unix.SYS_OPEN_TREE, uintptr(at), cstring("/tmp"), unix.OPEN_TREE_CLONE)
	tell("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	tell("chroot", unix.Chroot("/tmp"))
}

// probeOthers tries to read, write and rob another process of its own user.
func probeOthers([]string) {
	runtime.LockOSThread() // a tracer is a thread
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		tell("child", err)
		return
	}
	pid := child.Process.Pid
	defer child.Wait()
	defer child.Process.Kill()
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	remote := []unix.RemoteIovec{{Base: 0, Len: 8}}
	_, err := unix.ProcessVMReadv(pid, local, remote, 0)
	tell("process_vm_readv", err)
	_, err = unix.ProcessVMWritev(pid, local, remote, 0)
	tell("process_vm_writev", err)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
	}
	tell("pidfd_getfd", err)
	tellCall("kcmp", unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), 0, 1, 1)
	tell("ptrace", unix.PtraceSeize(pid))
}

func probeInterfaces([]string) {
	tellCall("userfaultfd", unix.SYS_USERFAULTFD, unix.O_CLOEXEC|1) // UFFD_USER_MODE_ONLY
	params := make([]byte, 120)
	tellCall("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params[0])))
	payload := []byte("x")
	session := unix.KEY_SPEC_PROCESS_KEYRING
	tellCall("add_key", unix.SYS_ADD_KEY, cstring("user"), cstring("holdfast"), uintptr(unsafe.Pointer(&payload[0])), 1, uintptr(session))
	tellCall("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, uintptr(session), 1)
	attr := make([]byte, 128)
	tellCall("perf_event_open", unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr[0])), 0, ^uintptr(0), ^uintptr(0), 1<<20)
	tellCall("bpf", unix.SYS_BPF, 1<<20, uintptr(unsafe.Pointer(&attr[0])), 128)
}

// probeInit goes for PID 1, which has held the task's environment.
func probeInit([]string) {
	for s := 1; s < 65; s++ {
		if s != int(unix.SIGCONT) && s != 32 && s != 33 { // the C library's own
			_ = unix.Kill(1, unix.Signal(s))
		}
	}
	tell("init survives", unix.Kill(1, 0))
	child := exec.Command("/bin/sleep", "1000")
	if err := child.Start(); err != nil {
		tell("child", err)
		return
	}
	_ = unix.Kill(child.Process.Pid, unix.SIGTERM)
	tell("child dies", map[bool]error{false: unix.EALREADY}[child.Wait() != nil])
	for _, f := range []string{"mem", "environ", "maps", "auxv", "cwd", "fd/0", "exe"} {
		fd, err := unix.Open("/proc/1/"+f, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil && f != "cwd" {
			_, err = unix.Pread(fd, make([]byte, 1), 0)
		}
		if err == unix.EIO { // open, and nothing at this address
			err = nil
		}
		tell(f, err)
	}
	fd, err := unix.Open("/proc/1/mem", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	tell("mem-write", err)
	unix.Close(fd)
	runtime.LockOSThread()
	buf := make([]byte, 8)
	_, err = unix.ProcessVMReadv(1, []unix.Iovec{{Base: &buf[0], Len: 8}}, []unix.RemoteIovec{{Len: 8}}, 0)
	tell("process_vm_readv", err)
	tell("ptrace", unix.PtraceSeize(1))
}

// probeTerminal looks for one, and types one letter, no line, into its input.
func probeTerminal([]string) {
	for _, f := range []string{"/dev/tty", "/dev/ptmx", "/dev/console", "/dev/tty0", "/dev/pts/ptmx"} {
		_, err := unix.Open(f, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		tell(f, err)
	}
	for fd := range 3 {
		_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		tell("isatty-"+strconv.Itoa(fd), err)
	}
	letter := []byte("x")
	tellCall("type", unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&letter[0])))
}

// probePriorities changes this process alone.
func probePriorities([]string) {
	runtime.LockOSThread()
	tell("nice", unix.Setpriority(unix.PRIO_PROCESS, 0, -5))
	tell("nice-up", unix.Setpriority(unix.PRIO_PROCESS, 0, 5))
	tellCall("ioprio", unix.SYS_IOPRIO_SET, 1, 0, 1<<13|4) // the real-time class
	one := int32(1)
	tellCall("fifo", unix.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&one)))
	tellCall("round-robin", unix.SYS_SCHED_SETSCHEDULER, 0, 2, uintptr(unsafe.Pointer(&one)))
	tell("mlock", unix.Mlock(make([]byte, 1<<20)))
	tell("mlockall", unix.Mlockall(unix.MCL_CURRENT))
	tell("unlimited", unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 1 << 21, Max: 1 << 21}))
}

func probeHostname([]string) {
	tell("sethostname", unix.Sethostname([]byte("other")))
	tell("setdomainname", unix.Setdomainname([]byte("other")))
}

func probeHandles([]string) {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/tmp", 0)
	tell("name_to_handle_at", err)
	if err != nil {
		h = unix.NewFileHandle(1, make([]byte, 8))
	}
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.OpenByHandleAt(root, h, unix.O_RDONLY)
	}
	tell("open_by_handle_at", err)
}

func probeNetlink([]string) {
	for name, protocol := range map[string]int{
		"route": unix.NETLINK_ROUTE, "usersock": unix.NETLINK_USERSOCK, "uevent": unix.NETLINK_KOBJECT_UEVENT, "generic": unix.NETLINK_GENERIC,
	} {
		_, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		tell(name, err)
	}
}

// probePairs asks for socket pairs of families that are always in the kernel.
func probePairs([]string) {
	for name, family := range map[string]int{"unix": unix.AF_UNIX, "netlink": unix.AF_NETLINK, "inet": unix.AF_INET} {
		_, err := unix.Socketpair(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		tell(name, err)
	}
}

// probeRaw makes one harmless call by its number.
func probeRaw(args []string) {
	n, _ := strconv.ParseUint(args[0], 0, 64)
	tellCall("call", uintptr(n))
}
