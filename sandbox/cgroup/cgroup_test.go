package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tree makes a file tree that looks like a cgroup file system. Directories made
// below it do not fill themselves, as the real ones do: newGroup does that.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func mountLine(root, point, fstype, options string) string {
	return fmt.Sprintf("30 24 0:26 %s %s rw,nosuid shared:4 - %s cgroup rw,%s\n", root, point, fstype, options)
}

func TestDetect(t *testing.T) {
	v2 := map[string]string{
		"u/cgroup.controllers":                               "cpuset cpu io memory hugetlb pids rdma\n",
		"u/system.slice/holdfast.service/cgroup.controllers": "cpu memory pids\n",
		"h/cgroup.controllers":                               "hugetlb\n",
		"d/cgroup.controllers":                               "cpu memory pids\n",
		"d/cgroup.type":                                      "domain\n",
	}
	root := tree(t, v2)
	d := filepath.Join(root, "d")
	u, h := filepath.Join(root, "u"), filepath.Join(root, "h")
	service := filepath.Join(u, "system.slice/holdfast.service")
	all := func(loc Location) map[string]Location {
		m := map[string]Location{}
		controllers := Required
		if loc.Base == u {
			controllers = append([]string{IO}, Required...)
		}
		for _, c := range controllers {
			l := loc
			l.Controller = c
			m[c] = l
		}
		return m
	}
	v1 := mountLine("/", "/c/memory", "cgroup", "memory") + mountLine("/", "/c/cpu", "cgroup", "cpu,cpuacct") + mountLine("/", "/c/pids", "cgroup", "pids") +
		mountLine("/", "/c/io", "cgroup", "blkio")
	for _, c := range []struct {
		name      string
		mounts    string
		self      string
		delegated string
		want      map[string]Location
	}{
		{"nothing", "", "0::/\n", "", map[string]Location{}},
		{"v2 at its root", mountLine("/", u, "cgroup2", "nsdelegate"), "0::/user.slice/x.scope\n", "", all(Location{Version: 2, Mount: u, Base: u})},
		{"v2 delegated", mountLine("/", u, "cgroup2", "nsdelegate"), "0::/system.slice/holdfast.service\n", service,
			all(Location{Version: 2, Mount: u, Base: service, Leaf: service + "/node"})},
		{"v2 delegated, in the leaf", mountLine("/", u, "cgroup2", "nsdelegate"), "0::/system.slice/holdfast.service/node\n", service,
			all(Location{Version: 2, Mount: u, Base: service, Leaf: service + "/node"})},
		{"v2, a process of the true root", mountLine("/", u, "cgroup2", "nsdelegate"), "0::/\n", "", all(Location{Version: 2, Mount: u, Base: u})},
		{"v2 in a container", mountLine("/", d, "cgroup2", "nsdelegate"), "0::/\n", "", all(Location{Version: 2, Mount: d, Base: d, Leaf: d + "/node"})},
		{"v2 in a container, in the leaf", mountLine("/", d, "cgroup2", "nsdelegate"), "0::/node\n", "", all(Location{Version: 2, Mount: d, Base: d, Leaf: d + "/node"})},
		{"v2 mount of another part", mountLine("/docker/x", u, "cgroup2", "nsdelegate"), "0::/user.slice\n", "", all(Location{Version: 2, Mount: u, Base: u})},
		{"hybrid", v1 + mountLine("/", h, "cgroup2", "rw"), "4:memory:/x\n0::/\n", "", map[string]Location{
			Memory: {Memory, 1, "/c/memory", "/c/memory", ""}, CPU: {CPU, 1, "/c/cpu", "/c/cpu", ""},
			CPUAcct: {CPUAcct, 1, "/c/cpu", "/c/cpu", ""}, PIDs: {PIDs, 1, "/c/pids", "/c/pids", ""},
			IO: {IO, 1, "/c/io", "/c/io", ""},
		}},
		{"v1 with a space", mountLine("/", `/c\040d/memory`, "cgroup", "memory"), "", "", map[string]Location{Memory: {Memory, 1, "/c d/memory", "/c d/memory", ""}}},
		{"garbage", "x\n36 - \n- cgroup2\n", "garbage\n", "", map[string]Location{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Detect(Host{MountInfo: []byte(c.mounts), SelfCgroup: []byte(c.self), Delegated: func(dir string) bool { return dir == c.delegated }})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func v2Locations(base, leaf string) map[string]Location {
	m := map[string]Location{}
	for _, c := range Required {
		m[c] = Location{Controller: c, Version: 2, Mount: base, Base: base, Leaf: leaf}
	}
	return m
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestOpenV2(t *testing.T) {
	root := tree(t, map[string]string{
		"cgroup.subtree_control": "cpu", "holdfast-n/cgroup.subtree_control": "", "node/cgroup.procs": "", "cgroup.procs": "",
	})
	m, err := Open(v2Locations(root, filepath.Join(root, "node")), "n")
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, root, "node/cgroup.procs"); got != fmt.Sprint(os.Getpid()) {
		t.Errorf("the leaf holds %q", got)
	}
	if got := read(t, root, "cgroup.subtree_control"); got != "+memory +pids" {
		t.Errorf("enabled %q, want what was missing", got)
	}
	if got := read(t, root, "holdfast-n/cgroup.subtree_control"); got != "+memory +cpu +pids" {
		t.Errorf("enabled %q for attempts", got)
	}
	if len(m.hier) != 1 {
		t.Errorf("%d hierarchies, want one for all controllers", len(m.hier))
	}
	if _, err := Open(v2Locations(root, ""), "n"); !errors.Is(err, ErrBusy) {
		t.Errorf("second manager: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	root := tree(t, map[string]string{"cgroup.subtree_control": "", "node/cgroup.procs": "", "cgroup.procs": "77\n"})
	if _, err := Open(v2Locations(root, filepath.Join(root, "node")), "n"); err == nil || !strings.Contains(err.Error(), "77") {
		t.Errorf("with a stranger in the delegated group: %v", err)
	}
	loc := v2Locations(root, "")
	delete(loc, PIDs)
	var missing *ErrMissing
	if _, err := Open(loc, "n"); !errors.As(err, &missing) || missing.Controller != PIDs {
		t.Errorf("without pids: %v", err)
	}
}

// group makes a groupDir whose files exist, as the kernel would.
func group(t *testing.T, version int, controllers []string, files ...string) groupDir {
	m := map[string]string{"x/": ""}
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		m["x/"+name] = text
	}
	return groupDir{version: version, path: filepath.Join(tree(t, m), "x"), controllers: controllers}
}

func TestLimits(t *testing.T) {
	lim := Limits{MemoryBytes: 1 << 20, CPUMillis: 500, PIDs: 7}
	v1 := group(t, 1, []string{Memory, CPU, PIDs}, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness", "memory.kmem.tcp.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares", "pids.max")
	v2 := group(t, 2, []string{Memory, CPU, PIDs}, "memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "pids.max")
	for _, d := range []groupDir{v1, v2} {
		if missing, err := d.limit(Limits{}, lim); err != nil || missing != nil {
			t.Fatal(missing, err)
		}
	}
	for file, want := range map[string]string{
		v1.path + "/memory.limit_in_bytes": "1048576", v1.path + "/memory.memsw.limit_in_bytes": "1048576",
		v1.path + "/memory.kmem.tcp.limit_in_bytes": "1048576", // no less: a quarter would be too little to talk
		v1.path + "/cpu.cfs_quota_us":               "50000", v1.path + "/cpu.cfs_period_us": "100000", v1.path + "/pids.max": "7",
		v2.path + "/memory.max": "1048576", v2.path + "/memory.swap.max": "0", v2.path + "/memory.oom.group": "1",
		v2.path + "/cpu.max": "50000 100000", v2.path + "/pids.max": "7",
		v1.path + "/cpu.shares": "512", v2.path + "/cpu.weight": "20",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	// No memory limit: an error. No swap accounting: said, where there is swap.
	defer func(was func() bool) { swaps = was }(swaps)
	for _, has := range []bool{false, true} {
		swaps = func() bool { return has }
		for _, d := range []groupDir{group(t, 1, []string{Memory}, "memory.limit_in_bytes"), group(t, 2, []string{Memory}, "memory.max")} {
			g := Group{dirs: []groupDir{d}}
			if err := g.Limit(lim); err != nil || slices.Contains(g.NotEnforced(), Swap) != has || slices.Contains(g.NotEnforced(), SocketMemory) != (d.version == 1) {
				t.Errorf("v%d with swap %t: %v not enforced, %v", d.version, has, g.NotEnforced(), err)
			}
		}
	}
	if _, err := group(t, 2, []string{Memory}, "memory.swap.max").limit(Limits{}, lim); err == nil {
		t.Error("a group without memory.max took its limit")
	}
}

func TestUsage(t *testing.T) {
	v2 := Group{dirs: []groupDir{group(t, 2, []string{Memory, CPU, PIDs}, "cpu.stat=usage_usec 1500\nuser_usec 1\n", "memory.peak=4096\n",
		"memory.events=low 0\noom 2\noom_kill 3\noom_group_kill 1\n")}}
	want := Usage{CPU: 1500 * time.Microsecond, MemoryPeakBytes: 4096, OOMKills: 3}
	if got := v2.Usage(); got != want {
		t.Errorf("v2: %+v", got)
	}
	v1 := Group{dirs: []groupDir{
		group(t, 1, []string{Memory}, "memory.max_usage_in_bytes=4096\n", "memory.oom_control=oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
		group(t, 1, []string{CPU, CPUAcct}, "cpuacct.usage=1500000\n"),
	}}
	if got := v1.Usage(); got != want {
		t.Errorf("v1: %+v", got)
	}
	none := Group{dirs: []groupDir{group(t, 2, Required)}}
	if got := none.Usage(); got != (Usage{}) {
		t.Errorf("without counters: %+v", got)
	}
}

// On this machine: groups come, hold their limits and go.
func TestRealGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run the sandbox's tests as root")
		}
		t.Skip("needs root")
	}
	h, err := ReadHost()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test-cg-%d", os.Getpid())
	m, err := Open(Detect(h), name)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.Create("a", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Limit(Limits{MemoryBytes: 32 << 20, CPUMillis: 100, PIDs: 5}); err != nil {
		t.Error(err)
	}
	if _, err := m.Create("a", false); !errors.Is(err, os.ErrExist) {
		t.Errorf("the same group twice: %v", err)
	}
	files, err := g.OpenProcs()
	if err != nil {
		t.Fatal(err)
	}
	// Up and down again: on v1 the order of two of the files matters.
	for _, mem := range []int64{64 << 20, 16 << 20} {
		if err := g.Limit(Limits{MemoryBytes: mem, CPUMillis: 2 * mem >> 20, PIDs: mem >> 20}); err != nil {
			t.Errorf("change the memory's limit to %d: %v", mem, err)
		}
	}
	if _, ok := g.CPU(); !ok {
		t.Error("CPU time is not counted")
	}
	if left := g.NotEnforced(); len(left) > 0 {
		t.Errorf("not enforced: %v", left)
	}
	if len(files) != len(g.dirs) {
		t.Errorf("%d files for %d directories", len(files), len(g.dirs))
	}
	for _, f := range files {
		f.Close()
	}
	if err := g.Limit(Limits{PIDs: 1 << 60}); err == nil {
		t.Error("an absurd limit was set")
	}
	if n, err := m.Stale(); n != 1 || err != nil {
		t.Errorf("%d stale groups, %v", n, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + name); left != nil {
		t.Errorf("%v are left", left)
	}
}

// Groups of a node that died and never came back are removed by another; those
// of a living node are not.
func TestSweepOrphans(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run the sandbox's tests as root")
		}
		t.Skip("needs root")
	}
	h, err := ReadHost()
	if err != nil {
		t.Fatal(err)
	}
	loc := Detect(h)
	open := func(name string) *Manager {
		m, err := Open(loc, fmt.Sprintf("test-sweep-%d-%s", os.Getpid(), name))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	dead, living, sweeper := open("dead"), open("living"), open("sweeper")
	for _, m := range []*Manager{dead, living} {
		if _, err := m.Create("a", false); err != nil {
			t.Fatal(err)
		}
	}
	unix.Close(dead.lock) // as its process's death would
	dead.lock = -1
	if n := sweeper.SweepOrphans(); n < 1 { // other dead nodes of this machine count too
		t.Errorf("swept %d", n)
	}
	for _, h := range dead.hier {
		if _, err := os.Stat(h.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the dead node's %s: %v", h.dir, err)
		}
	}
	for _, h := range living.hier {
		if h.rare() {
			continue
		}
		if _, err := os.Stat(filepath.Join(h.dir, "a")); err != nil {
			t.Errorf("the living node's group: %v", err)
		}
	}
	if _, err := living.Stale(); err != nil {
		t.Error(err)
	}
	for _, m := range []*Manager{living, sweeper} {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Nodes that start while others sweep always get their groups.
func TestOpenAgainstSweepers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root") // TestSweepOrphans fails in CI
	}
	h, err := ReadHost()
	if err != nil {
		t.Fatal(err)
	}
	loc := Detect(h)
	sweeper, err := Open(loc, fmt.Sprintf("test-sweeper-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				sweeper.SweepOrphans()
			}
		}
	}()
	for i := range 50 {
		m, err := Open(loc, fmt.Sprintf("test-swept-%d-%d", os.Getpid(), i%3))
		if err != nil {
			t.Error(err)
			break
		}
		g, err := m.Create("a", false)
		if err != nil {
			t.Error(err)
			break
		}
		if err := errors.Join(g.Remove(), m.Close()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
	if err := sweeper.Close(); err != nil {
		t.Error(err)
	}
}
