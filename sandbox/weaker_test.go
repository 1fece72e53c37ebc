package sandbox

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"holdfast/sandbox/cgroup"
)

// without takes one wall from a machine. Every one that is needed is here.
var without = map[string]func(*hostFacts){
	"privilege":         func(h *hostFacts) { h.root = false },
	"kernel":            func(h *hostFacts) { h.kernel = [2]int{5, 10} },
	"user_namespace":    func(h *hostFacts) { h.takeLimit("user") },
	"pid_namespace":     func(h *hostFacts) { h.takeLimit("pid") },
	"mount_namespace":   func(h *hostFacts) { h.takeLimit("mnt") },
	"network_namespace": func(h *hostFacts) { h.takeLimit("net") },
	"ipc_namespace":     func(h *hostFacts) { h.takeLimit("ipc") },
	"uts_namespace":     func(h *hostFacts) { h.takeLimit("uts") },
	"cgroup_namespace":  func(h *hostFacts) { h.takeLimit("cgroup") },
	"time_namespace":    func(h *hostFacts) { h.takeKind("time") },
	"cgroup_memory":     func(h *hostFacts) { h.takeController(cgroup.Memory) },
	"cgroup_cpu":        func(h *hostFacts) { h.takeController(cgroup.CPU) },
	"cgroup_pids":       func(h *hostFacts) { h.takeController(cgroup.PIDs) },
	"swap_accounting":   func(h *hostFacts) { h.swapAccount, h.swapKiB = no, 1<<20 },
	"seccomp":           func(h *hostFacts) { h.seccomp = false },
	"landlock":          func(h *hostFacts) { h.landlock = 0 },
	"core_pattern":      func(h *hostFacts) { h.corePattern, h.coreMax = "|/usr/bin/handler %p", 0 },
	"user_ids":          func(h *hostFacts) { h.ids = [][2]int{{0, 1000}} },
}

func (h *hostFacts) takeLimit(ns string) {
	h.nsLimits = maps.Clone(h.nsLimits)
	h.nsLimits[ns] = 0
}

func (h *hostFacts) takeKind(ns string) {
	h.namespaces = maps.Clone(h.namespaces)
	h.namespaces[ns] = false
}

func (h *hostFacts) takeController(c string) {
	h.controllers = maps.Clone(h.controllers)
	delete(h.controllers, c)
}

// Whatever is needed and missing is refused, with the reason and the remedy;
// the remedy names the setting where there is one, and only there.
// guards P7
func TestEveryMissingWallIsRefused(t *testing.T) {
	able := ableHost()
	able.uids = [2]int{defaultUIDStart, defaultUIDCount}
	if m := able.missing(); m != nil {
		t.Fatal(m)
	}
	for _, a := range able.abilities() {
		needed := a.Need == NeedRequired || a.Need == NeedExplicit
		if needed && without[a.Name] == nil && a.Name != abilityProc { // proc is mounted or not: the launcher tells
			t.Errorf("no test takes %s away", a.Name)
		}
		if (a.Need == NeedExplicit) != slices.Contains(Weakenable(), a.Name) {
			t.Errorf("%s has the need %s, and the setting allows %v", a.Name, a.Need, Weakenable())
		}
	}
	for name, take := range without {
		h := able
		take(&h)
		m := h.missing()
		if m == nil || m.Ability != name || m.Reason == "" || m.Remedy == "" {
			t.Errorf("without %s: %+v", name, m)
			continue
		}
		setting := "sandbox.allow_missing: [" + name + "]"
		if strings.Contains(m.Remedy, setting) != slices.Contains(Weakenable(), name) {
			t.Errorf("without %s the remedy is %q", name, m.Remedy)
		}
		// Allowing everything that can be allowed helps those alone.
		h.allow = Weakenable()
		if got := h.missing() == nil; got != slices.Contains(Weakenable(), name) {
			t.Errorf("without %s, and with the setting, work is taken: %t", name, got)
		}
		if got := h.weaker(); slices.Contains(got, name) != slices.Contains(Weakenable(), name) || len(got) > 1 {
			t.Errorf("without %s it is weaker by %v", name, got)
		}
	}
}

// guards P7
func TestWhatCannotBeAllowed(t *testing.T) {
	for _, name := range []string{"user_namespace", "seccomp", "cgroup_memory", "cgroup_pids", "proof", "Landlock", ""} {
		_, err := New(Config{CgroupParent: newParent(), AllowMissing: []string{"landlock", name}})
		if err == nil || !strings.Contains(err.Error(), strings.Join(Weakenable(), ", ")) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func weakerRuntime(t *testing.T, name string, allow []string) *Runtime {
	t.Helper()
	needRoot(t)
	host := readHostFacts()
	without[name](&host)
	r, err := newRuntimeOn(host, Config{CgroupParent: newParent(), AllowMissing: allow}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// On a machine that lacks a wall nothing runs without the setting. With it,
// everything else holds, and each result says what was done without.
// guards P7
func TestRunWithout(t *testing.T) {
	for _, name := range Weakenable() {
		t.Run(name, func(t *testing.T) {
			r := weakerRuntime(t, name, nil)
			var cannot *ErrCannotIsolate
			if _, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{}); !errors.As(err, &cannot) || cannot.Ability != name {
				t.Fatalf("started: %v", err)
			}
			if w := r.Weaker(); len(w) > 0 {
				t.Errorf("runs nothing, and weaker: %v", w)
			}

			r = weakerRuntime(t, name, []string{name})
			p, err := r.Prove(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range p.With(NotTried) {
				if c.Name != name || c.Detail == "" {
					t.Errorf("%+v", c)
				}
			}
			want := []string{name}
			if got := r.Weaker(); !slices.Equal(got, want) {
				t.Errorf("weaker: %v", got)
			}
			if o := runSpec(t, r, shell("true")); !slices.Equal(o.Weaker, want) {
				t.Errorf("result: %s", o)
			}
			for _, a := range r.Abilities() {
				if a.Name == name && (a.Available || a.Enforced || !strings.Contains(a.Detail, "allowed to be missing")) {
					t.Errorf("%+v", a)
				}
			}
		})
	}
}

// What is allowed to be missing and is there is enforced like everywhere.
func TestAllowedAndThere(t *testing.T) {
	needRoot(t)
	r, err := New(Config{CgroupParent: newParent(), AllowMissing: Weakenable()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if p, err := r.Prove(t.Context()); err != nil || len(p.With(Held)) != len(p.Checks) {
		t.Errorf("%+v, %v", p, err)
	}
	if o := runSpec(t, r, shell("true")); len(o.Weaker) > 0 {
		t.Errorf("%s", o)
	}
}
