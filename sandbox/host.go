package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/cgroup"
)

// hostFacts is what readHostFacts saw; tests make up others.
type hostFacts struct {
	root        bool // effective user 0 with the capabilities that follow
	caps        uint64
	kernel      [2]int
	namespaces  map[string]bool // the kinds that the kernel has, by their names in /proc/self/ns
	nsLimits    map[string]int  // user.max_<kind>_namespaces
	usernsOff   bool            // Debian's kernel.unprivileged_userns_clone is 0
	controllers map[string]cgroup.Location
	cgroupErr   error
	swapKiB     int  // of the machine
	swapAccount fact // whether groups count it
	seccomp     bool
	landlock    int // ABI version, 0 is none
	idmap       bool
	ids         [][2]int // ranges of user IDs that exist here: first, count
	appArmor    bool     // it takes capabilities away in user namespaces of ordinary users
	procs       int      // mounts of proc that a sandbox could see
	procMasks   []string // what lies over the last of them
	corePattern string
	coreMax     uint64 // this process's hard limit of core dumps, bytes
	yama        string // ptrace_scope; empty without yama

	// What the runtime was told.
	uids  [2]int   // the range for attempts: first, count; {} when it does not matter
	allow []string // Config.AllowMissing
}

// fact is something that may not be known.
type fact uint8

const (
	unknown fact = iota
	yes
	no
)

func readHostFacts() hostFacts {
	h := hostFacts{root: os.Geteuid() == 0, namespaces: map[string]bool{}, nsLimits: map[string]int{}}
	var hdr = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil {
		h.caps = uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &h.kernel[0], &h.kernel[1])
	}
	for _, ns := range namespaces {
		_, err := os.Lstat("/proc/self/ns/" + ns)
		h.namespaces[ns] = err == nil
		h.nsLimits[ns] = readNumber("/proc/sys/user/max_" + ns + "_namespaces")
	}
	host, err := cgroup.ReadHost()
	if err != nil {
		h.cgroupErr = err
	} else {
		h.controllers = cgroup.Detect(host)
		h.procs, h.procMasks = visibleProc(host.MountInfo)
	}
	h.swapKiB = swapTotal()
	h.swapAccount = swapAccounted(h.controllers[cgroup.Memory])
	_, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	h.seccomp = err == nil
	h.landlock = landlockABI()
	h.appArmor = readNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") > 0
	const debian = "/proc/sys/kernel/unprivileged_userns_clone"
	if _, err := os.Stat(debian); err == nil {
		h.usernsOff = readNumber(debian) == 0
	}
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil {
		h.ids = parseIDMap(string(b))
	}
	h.idmap = h.atLeast(5, 12)
	h.corePattern = readText("/proc/sys/kernel/core_pattern")
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil {
		h.coreMax = core.Max
	}
	h.yama = readText("/proc/sys/kernel/yama/ptrace_scope")
	return h
}

// allowCoreLimit raises this process's hard limit of core dumps from 0 to 1
// byte, so that tasks can have 1: the one value at which the kernel starts no
// core handler of the host. A service manager may have set it to 0, and only
// who has CAP_SYS_RESOURCE can change that; abilities say what is left.
func allowCoreLimit() {
	var core unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CORE, &core) == nil && core.Max == 0 {
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: 1})
	}
}

// corePiped says whether a program of the host takes core dumps.
func (h hostFacts) corePiped() bool { return strings.HasPrefix(h.corePattern, "|") }

// parseIDMap reads lines of "inside outside count".
func parseIDMap(text string) (ids [][2]int) {
	for line := range strings.Lines(text) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 {
			ids = append(ids, [2]int{inside, count})
		}
	}
	return ids
}

// emptyForEver are folders of proc that hold nothing but what is mounted there:
// a mount on one hides nothing.
var emptyForEver = []string{"/sys/fs/binfmt_misc", "/fs/nfsd"}

// visibleProc counts the mounts of proc, and lists what hides parts of them
// if that is so for each: then the kernel lets no sandbox mount its own.
func visibleProc(mountinfo []byte) (n int, masks []string) {
	type mount struct{ id, parent, root, point, kind string }
	var all []mount
	for line := range bytes.Lines(mountinfo) {
		left, right, _ := strings.Cut(string(line), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) >= 5 && len(r) > 0 {
			all = append(all, mount{l[0], l[1], l[3], l[4], r[0]})
		}
	}
	for _, p := range all {
		if p.kind != "proc" || p.root != "/" {
			continue
		}
		n++
		var over []string
		for _, m := range all {
			if m.parent == p.id && m.id != p.id && !harmless(p.point, m.point) {
				over = append(over, m.point)
			}
		}
		if len(over) == 0 {
			return n, nil
		}
		masks = over
	}
	return n, masks
}

func harmless(proc, point string) bool {
	for _, dir := range emptyForEver {
		if path.Join(proc, dir) == point {
			return true
		}
	}
	return false
}

// swapAccounted says whether the groups below the location count swap. On v2
// only a group that is not the root can tell.
func swapAccounted(l cgroup.Location) fact {
	switch l.Version {
	case 1:
		if _, err := os.Stat(filepath.Join(l.Base, "memory.memsw.limit_in_bytes")); err != nil {
			return no
		}
		return yes
	case 2:
		groups, _ := filepath.Glob(filepath.Join(l.Base, "*", "memory.max"))
		groups = append(groups, filepath.Join(l.Base, "memory.max"))
		for _, g := range groups {
			if _, err := os.Stat(g); err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(g), "memory.swap.max")); err != nil {
				return no
			}
			return yes
		}
	}
	return unknown
}

func swapTotal() int {
	for line := range strings.Lines(readText("/proc/meminfo")) {
		var kib int
		if n, _ := fmt.Sscanf(line, "SwapTotal: %d kB", &kib); n == 1 {
			return kib
		}
	}
	return 0
}

func readText(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func readNumber(file string) int {
	n, _ := strconv.Atoi(readText(file))
	return n
}

func (h hostFacts) atLeast(major, minor int) bool {
	return h.kernel[0] > major || h.kernel[0] == major && h.kernel[1] >= minor
}
