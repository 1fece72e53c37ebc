package sandbox

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proverName is argv[0] of this program inside a sandbox that tests the walls.
const proverName = "holdfast-sandbox-prover"

// challenge is what the node asks the prover to try, on its stdin.
type challenge struct {
	Task       string            `json:"task"` // proveWalls, proveMemory or provePIDs
	Namespaces map[string]string `json:"namespaces,omitempty"`
	Hidden     []string          `json:"hidden,omitempty"` // host paths that must not exist
	Dial       [][2]string       `json:"dial,omitempty"`   // listening on the host
	Amount     int               `json:"amount,omitempty"` // bytes, or threads
}

const (
	proveWalls  = "walls"
	proveMemory = "memory"
	provePIDs   = "pids"
)

// namespaces are those that every sandbox has of its own. A sandbox shares its
// user namespace's parent and nothing else with the launcher.
var namespaces = []string{"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"}

// isProver says whether this process is one. Outside a sandbox nobody is: the
// attempts below are harmless there too, but would say nothing.
func isProver() bool {
	if len(os.Args) != 1 || os.Args[0] != proverName || os.Getuid() != taskID {
		return false
	}
	seals, err := unix.FcntlInt(0, unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0
}

// prove tries what the challenge says and prints what it should not have been
// able to do, as a JSON list.
func prove() int {
	var c challenge
	if err := json.NewDecoder(os.Stdin).Decode(&c); err != nil {
		return 2
	}
	var found []string
	breach := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	switch c.Task {
	case proveWalls:
		proveIdentity(breach)
		proveHidden(c, breach)
		proveDial(c, breach)
		proveCalls(breach)
	case proveMemory:
		hold := make([]byte, c.Amount)
		for i := 0; i < len(hold); i += 4096 {
			hold[i] = 1
		}
		breach("use %d bytes of memory", len(hold))
	case provePIDs:
		// Threads count as processes do. Go gives up where it gets none: a
		// fatal error, and no list.
		var started sync.WaitGroup
		for range c.Amount {
			started.Add(1)
			go func() {
				runtime.LockOSThread()
				started.Done()
				_ = unix.Pause()
			}()
		}
		started.Wait()
		breach("start %d threads", c.Amount)
	}
	if json.NewEncoder(os.Stdout).Encode(found) != nil {
		return 2
	}
	return 0
}

func proveIdentity(breach func(string, ...any)) {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		breach("not be inspected: %v", err)
	}
	want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2", "CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapBnd": "0", "CapAmb": "0"}
	for l := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), ":\t")
		if w, ok := want[k]; ok {
			if strings.TrimLeft(v, "0") != strings.TrimLeft(w, "0") {
				breach("run with %s %s", k, v)
			}
			delete(want, k)
		}
	}
	for k := range want {
		breach("hide its %s", k)
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(m)); err != nil || len(f) != 3 || f[0] != strconv.Itoa(taskID) || f[2] != "1" {
		breach("be other users: map %q, %v", m, err)
	}
	if syscall.Setuid(0) == nil {
		breach("become root")
	}
	for fd := 3; fd < 256; fd++ {
		if to, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil && !strings.HasPrefix(to, "anon_inode:[event") && !strings.HasPrefix(to, "/proc/") {
			breach("use an inherited descriptor of %s", to)
		}
	}
}

func proveHidden(c challenge, breach func(string, ...any)) {
	for _, p := range c.Hidden {
		for _, prefix := range []string{"", "/proc/self/root", "/proc/1/root", strings.Repeat("/..", 32)} {
			if _, err := os.Lstat(prefix + p); err == nil {
				breach("see %s%s of the host", prefix, p)
			}
		}
	}
	for _, ns := range namespaces {
		if own, err := os.Readlink("/proc/self/ns/" + ns); err != nil || own == c.Namespaces[ns] || own == "" {
			breach("share the %s namespace of the node (%s, %v)", ns, own, err)
		}
	}
	for _, p := range []string{"/", "/usr", "/etc", "/dev", "/proc/sys/kernel", "/etc/passwd"} {
		if unix.Access(p, unix.W_OK) == nil {
			breach("write to %s", p)
		}
	}
	for _, p := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/mem", "/proc/kcore"} {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Rdev != unix.Mkdev(1, 3) { // covered by /dev/null
			breach("open %s for writing", p)
		}
		f.Close()
	}
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			breach("see process %d", pid)
		}
	}
	if err != nil {
		breach("have no /proc: %v", err)
	}
}

func proveDial(c challenge, breach func(string, ...any)) {
	for _, d := range c.Dial {
		if conn, err := net.DialTimeout(d[0], d[1], time.Second); err == nil {
			conn.Close()
			breach("connect to %s on the host", d[1])
		}
	}
	list, err := net.Interfaces()
	if err != nil || slices.ContainsFunc(list, func(i net.Interface) bool { return i.Flags&net.FlagLoopback == 0 }) {
		breach("use the network: %v, %v", list, err)
	}
}

// proveCalls makes system calls that would fail for their arguments, if they
// were not refused before.
func proveCalls(breach func(string, ...any)) {
	for name, call := range map[string][3]uintptr{
		"mount": {unix.SYS_MOUNT}, "setns": {unix.SYS_SETNS, ^uintptr(0)}, "bpf": {unix.SYS_BPF, ^uintptr(0)},
		"ptrace": {unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1}, "unshare": {unix.SYS_UNSHARE, unix.CLONE_NEWUSER},
		"keyctl": {unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID}, "init_module": {unix.SYS_INIT_MODULE},
	} {
		if _, _, e := syscall.RawSyscall(call[0], call[1], call[2], 0); e != syscall.EPERM {
			breach("make the system call %s (%v)", name, e)
		}
	}
}
