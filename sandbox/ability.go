package sandbox

import (
	"errors"
	"fmt"
	"os"
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
	userns      int  // user.max_user_namespaces
	usernsOff   bool // Debian's kernel.unprivileged_userns_clone is 0
	controllers map[string]cgroup.Location
	cgroupErr   error
	seccomp     bool
	landlock    int // ABI version, 0 is none
	idmap       bool
	ids         [][2]int // ranges of user IDs that exist here: first, count
	appArmor    bool     // it takes capabilities away in user namespaces of ordinary users
}

func readHostFacts() hostFacts {
	h := hostFacts{root: os.Geteuid() == 0}
	var hdr = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) == nil {
		h.caps = uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &h.kernel[0], &h.kernel[1])
	}
	h.userns = readNumber("/proc/sys/user/max_user_namespaces")
	host, err := cgroup.ReadHost()
	if err != nil {
		h.cgroupErr = err
	} else {
		h.controllers = cgroup.Detect(host)
	}
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
	return h
}

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

// cannotMap says why the range of users cannot be used, or nil. In a container
// with a user namespace of its own few IDs exist.
func (h hostFacts) cannotMap(first, count int) *ErrCannotIsolate {
	for _, r := range h.ids {
		if first >= r[0] && first+count <= r[0]+r[1] {
			return nil
		}
	}
	return &ErrCannotIsolate{
		Ability: "user_ids",
		Reason:  fmt.Sprintf("user IDs %d to %d do not exist in the node's user namespace", first, first+count-1),
		Remedy:  "set the range for attempts to one within /proc/self/uid_map, or run the node outside of the container",
	}
}

func readNumber(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

func (h hostFacts) atLeast(major, minor int) bool {
	return h.kernel[0] > major || h.kernel[0] == major && h.kernel[1] >= minor
}

// needCaps are the node's capabilities without which no sandbox can be made.
var needCaps = []struct {
	bit  int
	name string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETGID, "CAP_SETGID"},
	{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
}

const remedyRoot = "start the node as root, for example by its systemd unit"

// abilities lists what isolation needs and uses, required ones first to fail.
func (h hostFacts) abilities() []Ability {
	var out []Ability
	add := func(name string, ok, enforced bool, detail, remedy string) {
		if ok {
			remedy = ""
		}
		out = append(out, Ability{Name: name, Available: ok, Enforced: enforced && ok, Detail: detail, Remedy: remedy})
	}
	var lacking []string
	for _, c := range needCaps {
		if h.caps>>c.bit&1 == 0 {
			lacking = append(lacking, c.name)
		}
	}
	detail := "effective user 0 with the capabilities needed"
	if !h.root {
		detail = "the node does not run as root"
	} else if len(lacking) > 0 {
		detail = "the node lacks " + strings.Join(lacking, ", ")
	}
	add("privilege", h.root && len(lacking) == 0, true, detail, remedyRoot)
	// mount_setattr is of 5.12; the rest (clone3, openat2, close_range) is older.
	add("kernel", h.atLeast(5, 12), true, fmt.Sprintf("Linux %d.%d", h.kernel[0], h.kernel[1]), "run Linux 5.12 or newer")
	if h.usernsOff {
		add("user_namespace", false, true, "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1")
	} else {
		add("user_namespace", h.userns > 0, true, fmt.Sprintf("user.max_user_namespaces is %d", h.userns), "sysctl -w user.max_user_namespaces=15000")
	}
	for _, c := range []string{cgroup.Memory, cgroup.CPU, cgroup.PIDs} {
		l, ok := h.controllers[c]
		detail := "not found"
		if ok {
			detail = l.String()
		} else if h.cgroupErr != nil {
			detail = h.cgroupErr.Error()
		}
		add("cgroup_"+c, ok, true, detail, "mount cgroup v2 with the "+c+" controller at /sys/fs/cgroup; in a container, delegate it")
	}
	add("seccomp", h.seccomp, true, "filter over all system calls", "run a kernel with CONFIG_SECCOMP_FILTER")
	add("idmapped_mounts", h.idmap, false, "writable grants, where the file system supports them", "run Linux 5.12 or newer")
	add("landlock", h.landlock > 0, true, fmt.Sprintf("ABI %d; a second wall behind the read-only mounts", h.landlock),
		"run Linux 5.13 or newer with landlock in the list of security modules (lsm=)")
	return out
}

// missing returns the first required ability that is not there.
func (h hostFacts) missing() *ErrCannotIsolate {
	for _, a := range h.abilities() {
		if !a.Available && a.Name != "landlock" && a.Name != "idmapped_mounts" {
			return &ErrCannotIsolate{Ability: a.Name, Reason: a.Detail, Remedy: a.Remedy}
		}
	}
	return nil
}

func cannotCgroup(err error) *ErrCannotIsolate {
	e := &ErrCannotIsolate{Ability: "cgroup", Reason: err.Error(),
		Remedy: "give the node a cgroup of its own that it may write: Delegate=yes in its systemd unit, or a writable /sys/fs/cgroup in a container"}
	var missing *cgroup.ErrMissing
	switch {
	case errors.As(err, &missing):
		e.Ability = "cgroup_" + missing.Controller
	case errors.Is(err, cgroup.ErrBusy):
		e.Remedy = "give every node of a machine its own name"
	}
	return e
}

func (h hostFacts) cannotLaunch(err error) *ErrCannotIsolate {
	return &ErrCannotIsolate{Ability: "launcher", Reason: err.Error(), Remedy: h.remedySetup()}
}

// remedySetup says what to do when the kernel refuses a step that it knows.
func (h hostFacts) remedySetup() string {
	if h.appArmor { // Ubuntu from 23.10
		return "AppArmor restricts user namespaces here: give the program a profile with the rule \"userns,\" or set kernel.apparmor_restrict_unprivileged_userns=0"
	}
	return "check that no security module or outer container forbids namespaces and mounts"
}

// Abilities lists what the machine offers to isolation, for a node's
// registration.
func (r *Runtime) Abilities() []Ability {
	list := r.host.abilities()
	ready := Ability{Name: "sandbox", Available: true, Enforced: true, Detail: "tasks can run"}
	if err := r.Check(); err != nil {
		ready.Available, ready.Enforced, ready.Detail = false, false, err.Error()
		var c *ErrCannotIsolate
		if errors.As(err, &c) {
			ready.Remedy = c.Remedy
		}
	}
	return append(list, ready)
}
