package sandbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast/sandbox/cgroup"
)

// guards P7
func TestProve(t *testing.T) { both(t, testProve) }

func testProve(t *testing.T, r *Runtime) {
	p, err := r.Prove(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.With(Held)) != len(walls)+2 || p.Took <= 0 {
		t.Errorf("%+v", p)
	}
	wantExit(t, runSpec(t, r, shell("true")), 0)
}

// With any wall missing the proof fails, names it, and nothing runs any more.
func TestProveFindsWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		off  control
		want string
	}{
		"capabilities": {ctlCaps, "CapBnd"},
		"landlock":     {ctlLandlock, "Landlock"},
		"masks":        {ctlMask, "/proc/cmdline"},
		"read-only":    {ctlReadOnly, "have / writable"},
		"nested":       {ctlNested, "user namespaces"},
		"no_new_privs": {ctlNoNewPrivs | ctlSeccomp | ctlLandlock, "NoNewPrivs 0"},
		"seccomp":      {ctlSeccomp, "system call mount"},
		"limits":       {ctlCgroups, "memory"},
		"rlimits":      {ctlLimits, "inotify"},
		"pids":         {ctlPID, "pid namespace of all sandboxes"},
		"ipc":          {ctlIPC, "ipc namespace of all sandboxes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRuntime(t, c.off)
			var cannot *ErrCannotIsolate
			p, err := r.Prove(t.Context())
			if !errors.As(err, &cannot) || !strings.Contains(cannot.Reason, c.want) {
				t.Fatalf("want %q, got %v", c.want, err)
			}
			if out := p.With(Escaped); len(out) == 0 || !slices.ContainsFunc(out, func(k Check) bool { return strings.Contains(k.Detail, c.want) }) {
				t.Errorf("the proof's checks: %+v", p)
			}
			if _, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{}); !errors.As(err, &cannot) {
				t.Errorf("start after a failed proof: %v", err)
			}
			if err := r.Check(); !errors.As(err, &cannot) {
				t.Errorf("check after a failed proof: %v", err)
			}
		})
	}
}

// A cancelled proof proves nothing, either way.
func TestProveCancelled(t *testing.T) {
	r := testRuntime(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Prove(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := r.Check(); err != nil {
		t.Errorf("check after a cancelled proof: %v", err)
	}
}

// ableHost is a machine that has everything.
func ableHost() hostFacts {
	h := hostFacts{
		root: true, caps: ^uint64(0), kernel: [2]int{6, 12}, namespaces: map[string]bool{}, nsLimits: map[string]int{},
		controllers: map[string]cgroup.Location{},
		swapAccount: yes, seccomp: true, landlock: 7, idmap: true, procs: 1, coreMax: 1 << 20, ids: [][2]int{{0, 1<<32 - 1}},
	}
	for _, ns := range namespaces {
		h.namespaces[ns], h.nsLimits[ns] = true, 100
	}
	for _, c := range append([]string{cgroup.IO}, cgroup.Required...) {
		h.controllers[c] = cgroup.Location{Controller: c, Version: 2, Mount: "/sys/fs/cgroup", Base: "/sys/fs/cgroup"}
	}
	return h
}

func TestCannotIsolate(t *testing.T) {
	able := ableHost()
	h := able
	h.usernsOff = true
	if m := h.missing(); m == nil || !strings.Contains(m.Remedy, "unprivileged_userns_clone=1") {
		t.Errorf("%+v", m)
	}
	h = able
	h.caps &^= 1 << 21 // CAP_SYS_ADMIN
	if m := h.missing(); m == nil || !strings.Contains(m.Reason, "CAP_SYS_ADMIN") {
		t.Errorf("%+v", m)
	}
}

func TestUserIDsMustExist(t *testing.T) {
	host := hostFacts{ids: parseIDMap("         0          0 4294967295\n")}
	if e := host.cannotMap(2_000_000_000, 65536); e != nil {
		t.Error(e)
	}
	container := hostFacts{ids: parseIDMap("0 100000 1000\n1000 5000 65536\nrubbish\n")}
	if e := container.cannotMap(1000, 65536); e != nil {
		t.Error(e)
	}
	for _, c := range [][2]int{{2_000_000_000, 65536}, {999, 10}, {1000, 65537}} {
		if e := container.cannotMap(c[0], c[1]); e == nil || e.Ability != "user_ids" {
			t.Errorf("%v: %v", c, e)
		}
	}
}

func TestRemedyNamesAppArmor(t *testing.T) {
	e := hostFacts{appArmor: true}.cannotLaunch(errors.New("x"))
	if !strings.Contains(e.Remedy, "apparmor_restrict") {
		t.Error(e)
	}
}

func TestAbilities(t *testing.T) {
	r := testRuntime(t, 0)
	seen := map[string]Ability{}
	for _, a := range r.Abilities() {
		seen[a.Name] = a
	}
	for _, name := range []string{"privilege", "kernel", "user_namespace", "cgroup_memory", "cgroup_cpu", "cgroup_pids", "seccomp", "sandbox"} {
		if a := seen[name]; !a.Available || !a.Enforced || a.Detail == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{
		{}, {CgroupParent: "a/b"}, {CgroupParent: "a", UIDBase: -1, UIDCount: 10}, {CgroupParent: "a", UIDBase: 1, UIDCount: 1},
		{CgroupParent: "a", UIDCount: 10}, {CgroupParent: "a", UIDBase: 1 << 32, UIDCount: 10},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
