package sandbox

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/cgroup"
)

// nsNames are the kinds of namespaces as people know them.
var nsNames = map[string]string{"mnt": "mount", "net": "network"}

func (h hostFacts) namespaceRows(r *rows) {
	for _, ns := range namespaces {
		name := ns
		if long := nsNames[ns]; long != "" {
			name = long
		}
		name += "_namespace"
		sysctl := "user.max_" + ns + "_namespaces"
		need, ok := NeedRequired, h.namespaces[ns] && h.nsLimits[ns] > 0
		if name == abilityTime {
			need = NeedExplicit
		}
		detail, remedy := fmt.Sprintf("%s is %d", sysctl, h.nsLimits[ns]), "sysctl -w "+sysctl+"=15000"
		switch {
		case !h.namespaces[ns]:
			detail, remedy = "the kernel has none", "run a kernel with CONFIG_"+strings.ToUpper(ns)+"_NS"
		case ns == "user" && h.usernsOff:
			ok, detail, remedy = false, "kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"
		}
		r.add(need, name, ok, detail, remedy)
	}
}

func (h hostFacts) cgroupRows(r *rows) {
	for _, c := range cgroup.Required {
		l, ok := h.controllers[c]
		detail := "not found"
		if ok {
			detail = l.String()
			if !h.root {
				detail += "; not tried whether a group can be made"
			}
		} else if h.cgroupErr != nil {
			detail = h.cgroupErr.Error()
		}
		r.add(NeedRequired, "cgroup_"+c, ok, detail, "mount cgroup v2 with the "+c+" controller at /sys/fs/cgroup; in a container, delegate it")
	}
	acct, ok := h.controllers[cgroup.CPUAcct]
	detail := acct.String()
	if !ok {
		if ok = h.controllers[cgroup.CPU].Version == 2; ok {
			detail = "v2 counts CPU time in every group"
		} else {
			detail = "not found: the CPU time of a task is what its command reports"
		}
	}
	r.add(NeedOptional, "cgroup_cpuacct", ok, detail, "mount the cpuacct controller beside cpu")
	h.ioRow(r)
	h.swapRow(r)
}

// ioRow is never "enforced": what a controller can do differs from disk to disk,
// and a task that asks for more starts all the same and is told.
func (h hostFacts) ioRow(r *rows) {
	l, ok := h.controllers[cgroup.IO]
	detail := "not found: no limit of IO is enforced, and each result that asked for one says so"
	switch {
	case ok && l.Version == 1:
		detail = l.String() + " (blkio): rates of reads and of direct writes; not of buffered writes, and weights only under bfq; results say what is not enforced"
	case ok:
		detail = l.String() + ": rates of reads and writes; weights under bfq or io.cost; results say what is not enforced"
	}
	r.add(NeedOptional, "cgroup_io", ok, detail, "run a kernel with CONFIG_BLK_CGROUP and mount the controller").Enforced = false
}

func (h hostFacts) swapRow(r *rows) {
	remedy := "boot with swapaccount=1, or run Linux 6.1 or newer with cgroup v2"
	switch {
	case h.swapAccount == yes:
		r.add(NeedExplicit, abilitySwap, true, fmt.Sprintf("memory limits count swap; the machine has %d MiB of it", h.swapKiB>>10), "")
	case h.swapKiB == 0:
		r.add(NeedExplicit, abilitySwap, true, "the machine has no swap to count", "")
	case h.swapAccount == no:
		r.add(NeedExplicit, abilitySwap, false, fmt.Sprintf("memory limits do not count the machine's %d MiB of swap", h.swapKiB>>10), remedy)
	default:
		r.add(NeedExplicit, abilitySwap, false, "only a group that was made can tell", remedy).Unknown = true
	}
}

func (h hostFacts) landlockRows(r *rows) {
	detail := fmt.Sprintf("ABI %d; files: a second wall behind the read-only mounts", h.landlock)
	if h.landlock == 0 {
		detail = "the kernel has none, or does not switch it on"
	}
	r.add(NeedExplicit, abilityLandlock, h.landlock > 0, detail, "run Linux 5.13 or newer with landlock in the list of security modules (lsm=)")
	detail = "abstract sockets and signals stay within the sandbox, as by its namespaces"
	if h.landlock < 6 {
		detail = fmt.Sprintf("ABI %d, from 6 on; namespaces are the only wall around abstract sockets and signals", h.landlock)
	}
	r.add(NeedOptional, "landlock_scope", h.landlock >= 6, detail, "run Linux 6.12 or newer")
	r.add(NeedNote, "landlock_network", h.landlock >= 4,
		fmt.Sprintf("ABI %d, from 4 on; a second wall for tasks without any network; for others not used: it would deny a sandbox its own loopback", h.landlock), "")
}

func (h hostFacts) mountRows(r *rows) {
	r.add(NeedOptional, "idmapped_mounts", h.idmap, "for grants, where their file system can", "run Linux 5.12 or newer")
	detail, remedy := "a whole proc is in sight", ""
	switch {
	case h.procs == 0:
		detail, remedy = "no proc is mounted", "mount proc at /proc"
	case len(h.procMasks) > 0:
		masks := h.procMasks
		if len(masks) > 3 {
			masks = append(masks[:3:3], fmt.Sprintf("%d more", len(masks)-3))
		}
		detail = "parts of proc are covered (" + strings.Join(masks, ", ") + "), so that no sandbox may mount its own"
		remedy = "run the container with an unmasked /proc (docker: --security-opt systempaths=unconfined)"
	}
	r.add(NeedRequired, abilityProc, h.procs > 0 && len(h.procMasks) == 0, detail, remedy)
}

// coreRow is about who gets the memory of a task that crashes.
func (h hostFacts) coreRow(r *rows) {
	detail := fmt.Sprintf("%q: a file in the folder of the process; none of a task's, by its limit", h.corePattern)
	if h.corePiped() {
		program, _, _ := strings.Cut(h.corePattern, " ")
		detail = fmt.Sprintf("%q: a program of the host; not started for tasks, whose limit is 1", program)
		if h.coreMax < 1 {
			detail = fmt.Sprintf("%q: a program of the host, which only a limit of 1 keeps from a task's memory, and the node's hard limit is 0", program)
		}
	}
	r.add(NeedRequired, "core_pattern", !h.corePiped() || h.coreMax >= 1, detail, "start the node with a hard limit of at least 1: LimitCORE=1 in its systemd unit")
}

// noteRows are facts that explain refusals or that people ask for.
func (h hostFacts) noteRows(r *rows) {
	detail, remedy := "does not restrict user namespaces", ""
	if h.appArmor {
		detail, remedy = "restricts user namespaces of ordinary users", remedyAppArmor
	}
	r.add(NeedNote, "apparmor_userns", !h.appArmor, detail, remedy)
	detail = "not there; ptrace is refused by seccomp and namespaces"
	if h.yama != "" {
		detail = "ptrace_scope is " + h.yama + "; ptrace is refused by seccomp and namespaces besides"
	}
	r.add(NeedNote, "yama", h.yama != "", detail, "")
	limits := r.add(NeedNote, "rlimits", true, "", "")
	limits.Enforced = true
	var have, low []string
	for _, l := range taskLimits() {
		name := rlimitNames[l.resource]
		have = append(have, fmt.Sprintf("%s %d", name, l.value))
		if l.resource == unix.RLIMIT_NOFILE && l.value < taskFiles {
			low = append(low, name)
		}
	}
	limits.Detail = strings.Join(have, ", ")
	if len(low) > 0 {
		limits.Remedy = "raise the node's hard limit of open files: LimitNOFILE= in its systemd unit"
	}
}

var rlimitNames = map[int]string{
	unix.RLIMIT_NOFILE: "nofile", unix.RLIMIT_MEMLOCK: "memlock", unix.RLIMIT_MSGQUEUE: "msgqueue",
	unix.RLIMIT_SIGPENDING: "sigpending", unix.RLIMIT_STACK: "stack", unix.RLIMIT_RTPRIO: "rtprio",
	unix.RLIMIT_NICE: "nice", unix.RLIMIT_CORE: "core",
}
