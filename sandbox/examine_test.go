package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/sandbox/cgroup"
)

func TestExamine(t *testing.T) {
	needRoot(t)
	parent := newParent()
	e, err := Examine(t.Context(), Config{CgroupParent: parent})
	if err != nil || e.Cannot != nil {
		t.Fatalf("%+v, %v", e.Cannot, err)
	}
	if held := e.Proof.With(Held); len(held) != len(e.Proof.Checks) || len(held) != len(walls)+2 {
		t.Errorf("%+v", e.Proof)
	}
	if last := e.Abilities[len(e.Abilities)-1]; last.Name != "sandbox" || !last.Available {
		t.Errorf("%+v", last)
	}
	for _, h := range readHostFacts().controllers {
		if left, _ := filepath.Glob(filepath.Join(h.Base, "holdfast-"+parent)); left != nil {
			t.Errorf("%v are left", left)
		}
	}
}

// Without root it tells what is there, tries nothing, and says so of each check.
func TestExamineWithoutRoot(t *testing.T) {
	host := readHostFacts()
	host.root, host.caps = false, 0
	e, err := examineOn(t.Context(), host, Config{CgroupParent: newParent()}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if e.Cannot == nil || e.Cannot.Ability != "privilege" || e.Cannot.Remedy == "" {
		t.Errorf("%+v", e.Cannot)
	}
	if open := e.Proof.With(NotTried); len(open) != len(walls)+2 || open[0].Detail == "" {
		t.Errorf("%+v", e.Proof)
	}
	for _, a := range e.Abilities {
		if a.Enforced {
			t.Errorf("%s is in force where nothing runs", a.Name)
		}
		if a.Name == "seccomp" && !a.Available {
			t.Errorf("%+v", a)
		}
	}
}

// A wall that is there and does not hold is found, and everything after it is
// tried nevertheless.
func TestExamineALeak(t *testing.T) {
	needRoot(t)
	e, err := examineOn(t.Context(), readHostFacts(), Config{CgroupParent: newParent()}, ctlSeccomp)
	if err != nil || e.Cannot == nil || e.Cannot.Ability != "proof" {
		t.Fatalf("%+v, %v", e.Cannot, err)
	}
	out := e.Proof.With(Escaped)
	has := func(name string) bool { return slices.ContainsFunc(out, func(c Check) bool { return c.Name == name }) }
	if !has("system_calls") || !has("identity") || has("memory") || len(e.Proof.With(NotTried)) > 0 {
		t.Errorf("%+v", e.Proof)
	}
}

func TestLacks(t *testing.T) {
	h := ableHost()
	h.takeController(cgroup.IO)
	h.landlock = 3
	var names []string
	for _, a := range (Examination{Abilities: h.abilities()}).Lacks() {
		names = append(names, a.Name)
	}
	if !slices.Equal(names, []string{"cgroup_io", "landlock_scope"}) {
		t.Errorf("lacks %v", names)
	}
}

// The row tells what results say: it must not call a limit enforced that a task
// may start without, nor unused what limits use.
func TestIORow(t *testing.T) {
	for version, want := range map[int]string{0: "not found", 1: "not of buffered writes", 2: "reads and writes"} {
		h := ableHost()
		h.takeController(cgroup.IO)
		if version > 0 {
			h.controllers[cgroup.IO] = cgroup.Location{Controller: cgroup.IO, Version: version, Base: "/x"}
		}
		for _, a := range h.abilities() {
			if a.Name == "cgroup_io" && (a.Enforced || a.Available != (version > 0) || !strings.Contains(a.Detail, want) || a.Available == (a.Remedy != "")) {
				t.Errorf("version %d: %+v", version, a)
			}
		}
	}
}

func TestVisibleProc(t *testing.T) {
	const root = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
	const proc = "23 22 0:21 / /proc rw,nosuid - proc proc rw\n"
	for name, c := range map[string]struct {
		mounts string
		n      int
		masks  []string
	}{
		"host":      {root + proc + "24 23 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n", 1, nil},
		"container": {root + proc + "24 23 0:22 / /proc/acpi ro - tmpfs tmpfs ro\n25 23 0:5 /null /proc/kcore rw - devtmpfs udev rw\n", 1, []string{"/proc/acpi", "/proc/kcore"}},
		"two":       {root + proc + "24 23 0:22 / /proc/acpi ro - tmpfs tmpfs ro\n26 22 0:21 / /whole rw - proc proc rw\n", 2, nil},
		"part":      {root + "23 22 0:21 /sys /proc/sys rw - proc proc rw\n", 0, nil},
		"none":      {"", 0, nil},
		"garbage":   {"x - \n\n1 2 - proc", 0, nil},
	} {
		if n, masks := visibleProc([]byte(c.mounts)); n != c.n || !slices.Equal(masks, c.masks) {
			t.Errorf("%s: %d, %v", name, n, masks)
		}
	}
}

func TestSwapAccounted(t *testing.T) {
	dir := t.TempDir()
	at := func(version int, files ...string) fact {
		base := filepath.Join(dir, t.Name(), files[0])
		if err := os.MkdirAll(filepath.Join(base, "child"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range files[1:] {
			if err := os.WriteFile(filepath.Join(base, f), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		l := readHostFacts().controllers["memory"]
		l.Version, l.Base = version, base
		return swapAccounted(l)
	}
	for i, c := range []struct{ got, want fact }{
		{at(1, "a", "memory.memsw.limit_in_bytes"), yes}, {at(1, "b"), no},
		{at(2, "c"), unknown}, {at(2, "d", "memory.max"), no}, {at(2, "e", "memory.max", "memory.swap.max"), yes},
		{at(2, "f", "child/memory.max"), no}, {at(2, "g", "child/memory.max", "child/memory.swap.max"), yes},
		{at(0, "h"), unknown},
	} {
		if c.got != c.want {
			t.Errorf("case %d: %d, want %d", i, c.got, c.want)
		}
	}
}
