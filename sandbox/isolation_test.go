package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// hostFile makes a file that everybody on the host may read.
func hostFile(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // or nobody would get to it for another reason
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "file")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// guards P7
func TestHostFilesAreOutOfReach(t *testing.T) { both(t, testHostFilesAreOutOfReach) }

func testHostFilesAreOutOfReach(t *testing.T, r *Runtime) {
	o := probe(t, r, Spec{}, "escape", hostFile(t, "secret"))
	wantExit(t, o, 0)
	for l := range lines(o.stdout) {
		what, how, _ := strings.Cut(l, " ")
		if (what == "read" || what == "init") && how == "ok" {
			t.Errorf("reached something: %s", o)
		}
	}
	var top []string
	for l := range lines(o.stdout) {
		if name, ok := strings.CutPrefix(l, "root "); ok {
			top = append(top, name)
		}
	}
	allowed := regexp.MustCompile(`^(usr|bin|sbin|lib|lib32|lib64|libx32|etc|dev|proc|tmp|probe)$`)
	for _, name := range top {
		if !allowed.MatchString(name) {
			t.Errorf("the root shows %s", name)
		}
	}
	if len(top) < 5 {
		t.Errorf("the root shows only %v", top)
	}
}

func TestHostEtcIsNotShown(t *testing.T) { both(t, testHostEtcIsNotShown) }

func testHostEtcIsNotShown(t *testing.T, r *Runtime) {
	o := probe(t, r, Spec{}, "open", "/etc/shadow", "/etc/resolv.conf", "/etc/machine-id", "/etc/ssh", "/root", "/home", "/var", "/sys/kernel", "/run", "/etc/passwd", "/usr/bin/env")
	wantExit(t, o, 0)
	got := lines(o.stdout)
	for _, p := range []string{"/etc/shadow", "/etc/resolv.conf", "/etc/machine-id", "/etc/ssh", "/root", "/home", "/var", "/sys/kernel", "/run"} {
		if !got[p+" ENOENT"] {
			t.Errorf("%s is there: %s", p, o)
		}
	}
	if !got["/etc/passwd ok"] || !got["/usr/bin/env ok"] {
		t.Errorf("want our own passwd and the system folders: %s", o)
	}
}

func TestOnlyThreeDescriptors(t *testing.T) { both(t, testOnlyThreeDescriptors) }

func testOnlyThreeDescriptors(t *testing.T, r *Runtime) {
	o := probe(t, r, Spec{Stdin: []byte("x")}, "fds")
	wantExit(t, o, 0)
	if o.stdout != "0\n1\n2\n" {
		t.Errorf("open descriptors: %s", o)
	}
}

func TestOtherProcessesAreInvisible(t *testing.T) { both(t, testOtherProcessesAreInvisible) }

func testOtherProcessesAreInvisible(t *testing.T, r *Runtime) {
	other, _, _ := start(t, r, shell("sleep 1000"))
	defer other.Wait()
	defer other.Kill(EndCancelled)
	o := probe(t, r, Spec{}, "signals")
	wantExit(t, o, 0)
	// Its own init counts: it may be signalled and ignores it.
	for l := range lines(o.stdout) {
		if strings.HasPrefix(l, "sees") || strings.HasPrefix(l, "reached") && l != "reached 1" {
			t.Errorf("%s", l)
		}
	}
}

// identity checks what the kernel says about the process, and returns complaints.
func identityComplaints(status string) []string {
	var bad []string
	got := lines(status)
	for _, want := range []string{
		"Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000", "Groups:", "NoNewPrivs: 1", "Seccomp: 2",
		"CapInh: 0000000000000000", "CapPrm: 0000000000000000", "CapEff: 0000000000000000",
		"CapBnd: 0000000000000000", "CapAmb: 0000000000000000",
	} {
		if !got[want] {
			bad = append(bad, want)
		}
	}
	return bad
}

// guards P7
func TestIdentity(t *testing.T) { both(t, testIdentity) }

func testIdentity(t *testing.T, r *Runtime) {
	o := probe(t, r, Spec{}, "status")
	wantExit(t, o, 0)
	if bad := identityComplaints(o.stdout); bad != nil {
		t.Errorf("want %q in %s", bad, o)
	}
}

func TestIdentityTestCanFail(t *testing.T) {
	for _, c := range []struct {
		off  control
		want string
	}{
		{ctlCaps, "CapBnd: 0000000000000000"},
		{ctlNoNewPrivs, "NoNewPrivs: 1"},
		{ctlSeccomp, "Seccomp: 2"},
		{ctlUser | ctlNested, "Uid: 1000 1000 1000 1000"}, // the limit would be the launcher's
	} {
		// Without privileges, no_new_privs is what lets seccomp and Landlock in.
		off := c.off
		if off == ctlNoNewPrivs {
			off |= ctlSeccomp | ctlLandlock
		}
		o := probe(t, testRuntime(t, off), Spec{}, "status")
		if bad := identityComplaints(o.stdout); !strings.Contains(strings.Join(bad, "|"), c.want) {
			t.Errorf("with control %b off the test sees nothing: %s", off, o)
		}
	}
}

// The host must never see a process of root, nor two attempts with one user.
func TestHostUsers(t *testing.T) { both(t, testHostUsers) }

func testHostUsers(t *testing.T, r *Runtime) {
	seen := map[uint32]bool{}
	for range 3 {
		s, _, _ := start(t, r, shell("sleep 1000"))
		defer s.Wait()
		defer s.Kill(EndCancelled)
		for _, pid := range groupPIDs(t, s) {
			st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
			if err != nil {
				t.Fatal(err)
			}
			_ = st
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				t.Fatal(err)
			}
			var a, e, sv, f uint32
			i := strings.Index(string(b), "Uid:")
			if _, err := fmt.Sscanf(string(b[i:]), "Uid: %d %d %d %d", &a, &e, &sv, &f); err != nil {
				t.Fatal(err)
			}
			if a != e || a != sv || a != f || int(a) <= r.uidBase || int(a) >= r.uidBase+r.uidCount {
				t.Errorf("process %d has users %d %d %d %d", pid, a, e, sv, f)
			}
			seen[a] = true
			m, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
			if err != nil {
				t.Fatal(err)
			}
			if f := strings.Fields(string(m)); len(f) != 3 || f[0] != "1000" || f[1] != fmt.Sprint(a) || f[2] != "1" {
				t.Errorf("map of process %d: %s", pid, m)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("3 attempts ran as users %v", seen)
	}
}

func TestSystemIsReadOnly(t *testing.T) { both(t, testSystemIsReadOnly) }

func testSystemIsReadOnly(t *testing.T, r *Runtime) {
	paths := []string{"/", "/usr/bin", "/etc", "/etc/passwd", "/dev", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward"}
	o := probe(t, r, Spec{}, "write", paths...)
	wantExit(t, o, 0)
	for l := range lines(o.stdout) {
		if !strings.HasSuffix(l, " EROFS") && !strings.HasSuffix(l, " EACCES") {
			t.Errorf("write: %s", l)
		}
	}
	for _, p := range []string{"/holdfast-was-here", "/usr/bin/holdfast-was-here", "/etc/holdfast-was-here", "/dev/holdfast-was-here"} {
		if !lines(o.stdout)[p+" EROFS"] {
			t.Errorf("want a read-only file system at %s: %s", p, o)
		}
	}
	if o := probe(t, testRuntime(t, ctlReadOnly), Spec{}, "write", "/"); lines(o.stdout)["/holdfast-was-here EROFS"] {
		t.Errorf("with a writable root the test sees nothing: %s", o)
	}
	if o := probe(t, r, Spec{}, "write", "/tmp", "/dev/shm", "/dev/null", "/dev/stdout"); strings.Count(o.stdout, " ok") != 4 {
		t.Errorf("the private folders are not writable: %s", o)
	}
}

func TestProcIsMasked(t *testing.T) {
	masked := func(off control) bool {
		o := probe(t, testRuntime(t, off), Spec{}, "open", "/proc/cmdline")
		return lines(o.stdout)["/proc/cmdline ok"] && runSpec(t, testRuntime(t, off), shell("cat /proc/cmdline")).stdout == ""
	}
	if !masked(0) {
		t.Error("the kernel's command line is shown")
	}
	if masked(ctlMask) {
		t.Error("without masks the test sees nothing")
	}
}

func TestSystemCalls(t *testing.T) { both(t, testSystemCalls) }

func testSystemCalls(t *testing.T, r *Runtime) {
	o := probe(t, r, Spec{}, "calls")
	wantExit(t, o, 0)
	got := lines(o.stdout)
	for _, want := range []string{
		"mount EPERM", "unshare EPERM", "setns EPERM", "ptrace EPERM", "bpf EPERM", "keyctl EPERM", "io_uring_setup EPERM",
		"perf_event_open EPERM", "open_by_handle_at EPERM", "clone3 ENOSYS", "unknown ENOSYS", "socket-packet EAFNOSUPPORT",
		"socket-vsock EAFNOSUPPORT", "mkfifo ok", "mknod-char EPERM", "chmod ok ok", "chmod-suid EPERM", "create-suid EPERM",
		"open-mode-ignored ok", "core-limit ok", "core-limit-is ok 1 1",
	} {
		if !got[want] {
			t.Errorf("want %q", want)
		}
	}
	if t.Failed() {
		t.Log(o)
	}
	if o := probe(t, testRuntime(t, ctlSeccomp), Spec{}, "calls"); lines(o.stdout)["clone3 ENOSYS"] {
		t.Errorf("without seccomp the test sees nothing: %s", o)
	}
}

// Two layers forbid user namespaces inside: either suffices.
func TestNoUserNamespacesInside(t *testing.T) {
	for _, c := range []struct {
		off  control
		want string
	}{{0, "clone EPERM"}, {ctlSeccomp, "clone ENOSPC"}, {ctlNested, "clone EPERM"}, {ctlSeccomp | ctlNested, "unshare ok"}} {
		o := probe(t, testRuntime(t, c.off), Spec{}, "userns")
		if c.want == "unshare ok" && lines(o.stdout)["clone ok"] {
			continue
		}
		if !lines(o.stdout)[c.want] {
			t.Errorf("with control %b off want %q: %s", c.off, c.want, o)
		}
	}
}

// A setuid file of the host's root, in a grant, must not make anyone root.
func TestSetuidIsUseless(t *testing.T) { both(t, testSetuidIsUseless) }

func testSetuidIsUseless(t *testing.T, r *Runtime) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/usr/bin/id")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "id")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o755|os.ModeSetuid|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Command: []string{"/grant/id"}, Mounts: []Mount{{Source: dir, Target: "/grant"}}}
	o := runSpec(t, r, spec)
	wantExit(t, o, 0)
	if strings.Contains(o.stdout, "euid=") || !strings.HasPrefix(o.stdout, "uid=1000(task) gid=1000(task)") {
		t.Errorf("setuid worked: %s", o)
	}
}

func TestResourceLimits(t *testing.T) {
	o := probe(t, testRuntime(t, 0), Spec{}, "limits")
	for _, want := range []string{"7 4096", "4 1", "8 65536"} {
		if !lines(o.stdout)[want] {
			t.Errorf("want %q: %s", want, o)
		}
	}
}
