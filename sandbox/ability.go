package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/cgroup"
)

// Ability is one thing the isolation needs or uses on this machine.
type Ability struct {
	Name      string // for example user_namespace, cgroup_memory, seccomp
	Need      Need
	Available bool
	Unknown   bool   // whether it is there could not be found out
	Enforced  bool   // every sandbox has it, or does not start
	Detail    string // for example "v1 at /sys/fs/cgroup/memory"
	Remedy    string // what to do when it is missing
}

func (a Ability) lacking() bool { return !a.Available && !a.Unknown }

// Need says what a machine without the ability may do.
type Need string

// The needs.
const (
	NeedRequired Need = "required" // no sandbox starts without
	NeedExplicit Need = "explicit" // none either, unless Config.AllowMissing names it
	NeedOptional Need = "optional" // used where it is there; nothing promised hangs on it
	NeedNote     Need = "note"     // a fact of the machine that the sandbox does not depend on
)

// Names that the code asks for.
const (
	abilityLandlock = "landlock"
	abilitySwap     = "swap_accounting"
	abilityTime     = "time_namespace"
	abilityProc     = "proc_mount"
	abilityUsers    = "user_ids"
)

// needCaps are the node's capabilities without which no sandbox can be made.
var needCaps = []struct {
	bit  int
	name string
}{
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETGID, "CAP_SETGID"},
	{unix.CAP_CHOWN, "CAP_CHOWN"}, {unix.CAP_KILL, "CAP_KILL"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
}

const remedyRoot = "start the node as root, for example by its systemd unit"

// rows gathers abilities.
type rows []Ability

func (r *rows) add(need Need, name string, ok bool, detail, remedy string) *Ability {
	if ok {
		remedy = ""
	} else if need == NeedExplicit {
		remedy += "; or do without: sandbox.allow_missing: [" + name + "]"
	}
	*r = append(*r, Ability{Name: name, Need: need, Available: ok, Enforced: ok && need != NeedNote, Detail: detail, Remedy: remedy})
	return &(*r)[len(*r)-1]
}

// abilities lists what isolation needs and uses, in the order in which what is
// missing is named.
func (h hostFacts) abilities() []Ability {
	var r rows
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
	r.add(NeedRequired, "privilege", h.root && len(lacking) == 0, detail, remedyRoot)
	// mount_setattr is of 5.12; the rest (clone3, openat2, close_range) is older.
	r.add(NeedRequired, "kernel", h.atLeast(5, 12), fmt.Sprintf("Linux %d.%d", h.kernel[0], h.kernel[1]), "run Linux 5.12 or newer")
	h.namespaceRows(&r)
	h.cgroupRows(&r)
	r.add(NeedRequired, "seccomp", h.seccomp, "filter over all system calls", "run a kernel with CONFIG_SECCOMP_FILTER")
	h.landlockRows(&r)
	h.mountRows(&r)
	if h.uids[1] > 0 {
		detail, remedy := fmt.Sprintf("%d to %d, one for each attempt", h.uids[0], h.uids[0]+h.uids[1]-1), ""
		missing := h.cannotMap(h.uids[0], h.uids[1])
		if missing != nil {
			detail, remedy = missing.Reason, missing.Remedy
		}
		r.add(NeedRequired, abilityUsers, missing == nil, detail, remedy)
	}
	h.coreRow(&r)
	h.noteRows(&r)
	return r
}

// missing returns the first ability that is not there and must be. What only a
// try can tell is left to the launcher.
func (h hostFacts) missing() *ErrCannotIsolate {
	for _, a := range h.abilities() {
		must := a.Need == NeedRequired || a.Need == NeedExplicit && !slices.Contains(h.allow, a.Name)
		if must && a.lacking() && a.Name != abilityProc {
			return &ErrCannotIsolate{Ability: a.Name, Reason: a.Detail, Remedy: a.Remedy}
		}
	}
	return nil
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
		Ability: abilityUsers,
		Reason:  fmt.Sprintf("user IDs %d to %d do not exist in the node's user namespace", first, first+count-1),
		Remedy:  "set the range for attempts to one within /proc/self/uid_map, or run the node outside of the container",
	}
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
		return remedyAppArmor
	}
	return "check that no security module or outer container forbids namespaces and mounts"
}

const remedyAppArmor = "AppArmor restricts user namespaces here: give the program a profile with the rule \"userns,\" or set kernel.apparmor_restrict_unprivileged_userns=0"

// Abilities lists what the machine offers to isolation, for a node's
// registration and for people. The last one says whether tasks can run.
func (r *Runtime) Abilities() []Ability {
	list := r.host.abilities()
	ready := Ability{Name: "sandbox", Need: NeedRequired, Available: true, Enforced: true, Detail: "tasks can run"}
	err := r.Check()
	if err != nil {
		ready.Available, ready.Enforced, ready.Detail = false, false, err.Error()
		var c *ErrCannotIsolate
		if errors.As(err, &c) {
			ready.Detail, ready.Remedy = "no task will run: "+c.Ability+": "+c.Reason, c.Remedy
		}
	}
	for i := range list {
		a := &list[i]
		if a.Name == abilityProc && err == nil { // the launcher has mounted one
			a.Available, a.Enforced, a.Unknown, a.Remedy = true, true, false, ""
		}
		if a.Need == NeedExplicit && a.lacking() && slices.Contains(r.host.allow, a.Name) {
			a.Detail += "; allowed to be missing"
		}
	}
	return append(list, ready)
}
