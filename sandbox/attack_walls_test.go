package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Threats behind which more walls stand than the filter: what is held must hold
// with the filter off too, and fall with the last wall.

// rootInside leaves a task the root of the launcher's user namespace, to which
// its mounts and its network belong.
const rootInside = ctlSeccomp | ctlCaps | ctlUser | ctlNested | ctlLandlock

func TestAttackNamespaces(t *testing.T) {
	kinds := []string{"clone-mnt", "clone-pid", "clone-net", "clone-ipc", "clone-uts", "clone-cgroup", "unshare-uts", "setns-uts"}
	attack{
		probe: "namespaces",
		held:  append(answers("EPERM", kinds...), "clone-user EPERM", "unshare-time EPERM"),
		twins: []twin{
			{ctlSeccomp, append(answers("EPERM", kinds...), "clone-user ENOSPC")}, // capabilities and the limit hold
			{rootInside, append(answers("ok", kinds...), "clone-user ok", "unshare-time ok|EINVAL")},
		},
	}.run(t)
}

// A time namespace would let a task set back the clocks that it is measured by.
func TestAttackTimeNamespace(t *testing.T) {
	without := "unshare-time ok"
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		without = "unshare-time EINVAL" // the kernel has none: the call alone is tried
	}
	attack{
		probe: "namespaces",
		held:  []string{"unshare-time EPERM"},
		twins: []twin{{ctlSeccomp, []string{"unshare-time EPERM"}}, {rootInside, []string{without}}},
	}.run(t)
}

func TestAttackMounts(t *testing.T) {
	all := []string{"mount", "bind", "umount", "remount", "fsopen", "open_tree", "mount_setattr", "chroot"}
	attack{
		probe: "mounts",
		held:  answers("EPERM", all...),
		twins: []twin{
			{ctlSeccomp, answers("EPERM", all...)},
			{rootInside &^ ctlSeccomp, answers("EPERM", all...)},
			{rootInside, answers("ok", all...)},
		},
	}.run(t)
}

func TestAttackHostName(t *testing.T) {
	attack{
		probe: "hostname",
		held:  answers("EPERM", "sethostname", "setdomainname"),
		twins: []twin{
			{ctlSeccomp, answers("EPERM", "sethostname", "setdomainname")},
			{rootInside, answers("ok", "sethostname", "setdomainname")}, // the sandbox's own
		},
	}.run(t)
}

// Other processes of the task's own user: the kernel would allow it.
func TestAttackOtherProcesses(t *testing.T) {
	all := []string{"process_vm_readv", "process_vm_writev", "pidfd_getfd", "ptrace", "kcmp"}
	attack{
		probe: "others",
		held:  answers("EPERM", all...),
		twins: []twin{{ctlSeccomp, []string{"process_vm_readv EFAULT", "process_vm_writev EFAULT", "pidfd_getfd ok", "ptrace ok", "kcmp ok|ENOSYS"}}},
	}.run(t)
}

// Interfaces that an ordinary user may have: some kernels have them closed.
func TestAttackInterfaces(t *testing.T) {
	attack{
		probe: "interfaces",
		held:  answers("EPERM", "userfaultfd", "io_uring_setup", "add_key", "keyctl", "perf_event_open", "bpf"),
		twins: []twin{{ctlSeccomp, []string{"userfaultfd ok|ENOSYS", "io_uring_setup ok|ENOSYS|EPERM", "add_key ok|ENOSYS", "keyctl ok|ENOSYS", "perf_event_open EINVAL|E2BIG|EACCES|ENOSYS"}}},
	}.run(t)
}

func TestAttackHandles(t *testing.T) {
	attack{
		probe: "handles",
		held:  []string{"name_to_handle_at ENOSYS", "open_by_handle_at EPERM"},
		twins: []twin{{ctlSeccomp, []string{"name_to_handle_at ok"}}},
	}.run(t)
}

func TestAttackSocketPairs(t *testing.T) {
	attack{
		probe: "pairs",
		held:  []string{"unix ok", "netlink EAFNOSUPPORT", "inet EAFNOSUPPORT"},
		twins: []twin{{ctlSeccomp, []string{"unix ok", "netlink ENOTSUP", "inet ENOTSUP"}}},
	}.run(t)
}

// PID 1 held the task's environment, and its end is the end of the sandbox.
func TestAttackInit(t *testing.T) {
	files := []string{"mem", "environ", "maps", "auxv", "cwd", "fd/0", "exe", "mem-write"}
	hidden := "ENOENT|EACCES|EPERM"
	attack{
		probe: "init",
		held:  append(answers(hidden, files...), "init survives ok", "child dies ok", "process_vm_readv EPERM", "ptrace EPERM"),
		twins: []twin{
			{ctlSeccomp, append(answers(hidden, files...), "process_vm_readv EPERM", "ptrace EPERM")},
			{ctlDump, append(answers("ok", "mem", "environ", "maps", "auxv", "cwd"), "mem-write EACCES", "process_vm_readv EPERM", "ptrace EPERM")},
			{ctlDump | ctlLandlock, []string{"mem-write ok"}},
			{ctlDump | ctlSeccomp, []string{"process_vm_readv EFAULT", "ptrace ok"}},
		},
	}.run(t)
}

// Priorities need rights over the machine, which no user namespace gives: the
// twin is the same program as the host's root.
func TestAttackPriorities(t *testing.T) {
	needRoot(t)
	attack{
		probe: "priorities",
		held: []string{"nice EACCES|EPERM", "nice-up ok", "ioprio EPERM", "fifo EPERM", "round-robin EPERM",
			"mlock ENOMEM|EAGAIN|EPERM", "mlockall ENOMEM|EPERM", "unlimited EPERM"},
		twins: []twin{
			{ctlSeccomp | ctlCaps, []string{"nice EACCES|EPERM", "ioprio EPERM", "fifo EPERM", "mlock ENOMEM|EAGAIN|EPERM", "unlimited EPERM"}},
			{ctlLimits, []string{"mlock ok"}},
		},
	}.run(t)
	o := onHost(t, "priorities")
	if missing := missingLines(o, []string{"nice ok", "ioprio ok", "fifo ok|EPERM", "mlock ok"}); missing != nil { // kernels with groups of real-time tasks refuse fifo
		t.Errorf("as the host's root the attack should get further, want %q: %s", missing, o)
	}
}

// onHost runs a probe without a sandbox, as who runs the tests.
func onHost(t *testing.T, name string, args ...string) outcome {
	t.Helper()
	return asProcess(t, name, func(*exec.Cmd) {}, args...)
}

// asProcess runs a probe outside of a sandbox.
func asProcess(t *testing.T, name string, change func(*exec.Cmd), args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_PROBE="+name)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	change(cmd)
	if err := cmd.Run(); err != nil {
		t.Fatalf("run the probe on the host: %v: %s", err, errs.String())
	}
	return outcome{stdout: out.String(), stderr: errs.String()}
}

const (
	// Without privileges, no_new_privs is what lets seccomp and Landlock in.
	noNewPrivsOff = ctlNoNewPrivs | ctlSeccomp | ctlLandlock
	userOff       = ctlUser | ctlNested
)

// grantedProgram is a program of the host in a folder to grant, changed by mark.
func grantedProgram(t *testing.T, program string, mark func(r *Runtime, file string) error) func(r *Runtime, args ...string) outcome {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(r *Runtime, args ...string) outcome {
		t.Helper()
		dir := t.TempDir()
		file := filepath.Join(dir, "program")
		for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(file, b, 0o755), mark(r, file)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		// Through a shell: the first program may keep what the init had, where a wall is off.
		command := append([]string{"/bin/sh", "-c", `exec /grant/program "$@"`, "sh"}, args...)
		return runSpec(t, r, withMount(Spec{Command: command}, dir, "/grant", false))
	}
}

// A setuid file of a user that the launcher's namespace has: the host's root is
// not even there. Each of three walls holds alone.
func TestAttackSetuidFile(t *testing.T) {
	run := grantedProgram(t, "/bin/cat", func(r *Runtime, file string) error {
		if err := os.Chown(file, r.uidBase+5, r.uidBase+5); err != nil {
			return err
		}
		return os.Chmod(file, 0o755|os.ModeSetuid|os.ModeSetgid)
	})
	gained := func(t *testing.T, r *Runtime) bool {
		o := run(r, "/proc/self/status")
		wantExit(t, o, 0)
		for l := range lines(o.stdout) {
			if f := strings.Fields(l); len(f) == 5 && (f[0] == "Uid:" || f[0] == "Gid:") && f[1] != f[2] {
				return true
			}
		}
		return false
	}
	both(t, func(t *testing.T, r *Runtime) {
		if gained(t, r) {
			t.Error("a setuid file changed the user")
		}
	})
	for name, off := range map[string]control{
		"mount":        userOff | noNewPrivsOff,
		"no_new_privs": userOff | ctlNoSuid,
		"users":        noNewPrivsOff | ctlNoSuid,
	} {
		if gained(t, testRuntime(t, off)) {
			t.Errorf("%s alone does not hold", name)
		}
	}
	if !gained(t, testRuntime(t, userOff|noNewPrivsOff|ctlNoSuid)) {
		t.Error("without any wall the test sees nothing")
	}
}

// A file with a capability, as ping once was. Each of three walls holds alone.
func TestAttackFileCapabilities(t *testing.T) {
	const netRaw = 1 << unix.CAP_NET_RAW
	run := grantedProgram(t, "/bin/cat", func(_ *Runtime, file string) error {
		// struct vfs_cap_data, version 2 with the effective bit: permitted, inheritable, and the high halves
		data := make([]byte, 20)
		binary.LittleEndian.PutUint32(data, 0x02000001)
		binary.LittleEndian.PutUint32(data[4:], netRaw)
		return unix.Setxattr(file, "security.capability", data, 0)
	})
	gained := func(t *testing.T, r *Runtime) bool {
		o := run(r, "/proc/self/status")
		if o.ExitCode == 126 && strings.Contains(o.stderr, "not permitted") {
			return false // the kernel runs no program that cannot have what its file says
		}
		wantExit(t, o, 0)
		return !lines(o.stdout)["CapEff:	0000000000000000"]
	}
	both(t, func(t *testing.T, r *Runtime) {
		if gained(t, r) {
			t.Error("a file gave a capability")
		}
	})
	for name, off := range map[string]control{
		"mount":        ctlCaps | noNewPrivsOff,
		"no_new_privs": ctlCaps | ctlNoSuid,
		"bounding set": noNewPrivsOff | ctlNoSuid,
	} {
		if gained(t, testRuntime(t, off)) {
			t.Errorf("%s alone does not hold", name)
		}
	}
	if !gained(t, testRuntime(t, ctlCaps|noNewPrivsOff|ctlNoSuid)) {
		t.Error("without any wall the test sees nothing")
	}
}
