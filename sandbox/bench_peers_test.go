package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The peers: Go's bare os/exec without any sandbox, bubblewrap, crun and runc,
// with the same payload. The OCI runtimes get the limits of a task by cgroups,
// and neither a seccomp filter nor a user namespace: they do less than we do.

func BenchmarkExec(b *testing.B)       { peer(b, execPeer(b)) }
func BenchmarkExecPaced(b *testing.B)  { peerPaced(b, execPeer(b)) }
func BenchmarkBubblewrap(b *testing.B) { peer(b, bubblewrap(b)) }
func BenchmarkCrun(b *testing.B)       { inV1(b, func() { peer(b, oci(b, "crun")) }) }
func BenchmarkRunc(b *testing.B)       { peer(b, oci(b, "runc")) }

func BenchmarkBubblewrapThroughput(b *testing.B) {
	sideBySide(b, func() func() bool { return runOf(b, bubblewrap(b)) })
}

func BenchmarkRuncThroughput(b *testing.B) {
	sideBySide(b, func() func() bool { return runOf(b, oci(b, "runc")) })
}

// BenchmarkCrunThroughput has a thread of its own start each worker's programs,
// see inV1.
func BenchmarkCrunThroughput(b *testing.B) {
	sideBySide(b, func() func() bool {
		run, ask, answer := runOf(b, oci(b, "crun")), make(chan struct{}), make(chan bool)
		ready := make(chan struct{})
		go inV1(b, func() {
			close(ready)
			for range ask {
				answer <- run()
			}
		})
		b.Cleanup(func() { close(ask) })
		<-ready
		return func() bool { ask <- struct{}{}; return <-answer }
	})
}

func peer(b *testing.B, command func() *exec.Cmd) {
	t, run := newTimes(b), runOf(b, command)
	run() // the first reads the disk
	for range b.N {
		t.measure(func() { run() })
	}
	t.report()
}

func peerPaced(b *testing.B, command func() *exec.Cmd) {
	t, run := newTimes(b), runOf(b, command)
	run()
	paced(b, func() { t.measure(func() { run() }) })
	t.report()
}

func runOf(b *testing.B, command func() *exec.Cmd) func() bool {
	return func() bool {
		cmd := command()
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Errorf("%s: %v: %s", cmd, err, out)
		}
		return err == nil
	}
}

func execPeer(b *testing.B) func() *exec.Cmd {
	program := filepath.Join(payloadRoot(b), payloadName)
	return func() *exec.Cmd { return exec.Command(program) }
}

// installed skips what this machine lacks: a figure is then not measured, which
// its table says.
func installed(b *testing.B, name string) string {
	b.Helper()
	needRoot(b)
	path, err := exec.LookPath(name)
	if err != nil {
		b.Skipf("%s is not installed", name)
	}
	return path
}

func bubblewrap(b *testing.B) func() *exec.Cmd {
	program := installed(b, "bwrap")
	args := []string{"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--ro-bind", filepath.Join(payloadRoot(b), "usr"), "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", payloadName}
	return func() *exec.Cmd { return exec.Command(program, args...) }
}

var containers atomic.Int64

// oci writes a bundle and gives the command that runs it once.
func oci(b *testing.B, name string) func() *exec.Cmd {
	b.Helper()
	program := installed(b, name)
	dir := b.TempDir()
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"proc", "dev", "tmp", "usr"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(root, link)); err != nil {
			b.Fatal(err)
		}
	}
	// Of its own: what runs at the same time in one group ends together.
	parent := fmt.Sprintf("holdfast-bench-%d-%d", os.Getpid(), containers.Add(1))
	b.Cleanup(func() { removeGroups(b, parent) })
	config, err := json.Marshal(ociConfig(parent, payloadRoot(b)))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	var flags []string
	if name == "crun" {
		flags = []string{"--cgroup-manager=cgroupfs"}
	}
	return func() *exec.Cmd {
		id := fmt.Sprintf("%s-%d", parent, containers.Add(1))
		return exec.Command(program, append(flags, "--root", filepath.Join(dir, "state"), "run", "-b", dir, id)...)
	}
}

func ociConfig(parent, root string) map[string]any {
	type m = map[string]any
	plain := []string{"nosuid", "noexec", "nodev"}
	var namespaces []m
	for _, n := range []string{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		namespaces = append(namespaces, m{"type": n})
	}
	return m{
		"ociVersion": "1.0.2",
		"process": m{
			"args": []string{payloadName}, "cwd": "/", "env": []string{"PATH=/"}, "noNewPrivileges": true,
			"user": m{"uid": 1000, "gid": 1000}, "capabilities": m{},
		},
		"root": m{"path": "rootfs", "readonly": true},
		"mounts": []m{
			{"destination": "/usr", "type": "bind", "source": filepath.Join(root, "usr"), "options": []string{"rbind", "ro", "nosuid", "nodev"}},
			{"destination": "/proc", "type": "proc", "source": "proc", "options": plain},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "size=64k"}},
			{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": plain},
		},
		"linux": m{
			"namespaces":  namespaces,
			"cgroupsPath": "/" + parent,
			"maskedPaths": []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"}, "readonlyPaths": []string{"/proc/sys"},
			"resources": m{
				"memory": m{"limit": DefaultMemoryBytes}, "pids": m{"limit": DefaultPIDs},
				"cpu": m{"quota": DefaultCPUMillis * 100, "period": 100_000},
			},
		},
	}
}

// removeGroups removes the empty groups that an OCI runtime leaves.
func removeGroups(b *testing.B, name string) {
	for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
		found, _ := filepath.Glob(pattern)
		for _, dir := range found {
			if err := unix.Rmdir(dir); err != nil {
				b.Logf("remove %s: %v", dir, err)
			}
		}
	}
}

// inV1 runs do on a thread whose own mount namespace has no cgroup v2 beside
// v1: crun refuses such machines. Nobody else sees the difference.
func inV1(b *testing.B, do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		const unified = "/sys/fs/cgroup/unified"
		if _, err := os.Stat(unified); err == nil {
			err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
			if err == nil {
				err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			}
			if err == nil {
				err = unix.Unmount(unified, unix.MNT_DETACH)
			}
			if err != nil {
				b.Errorf("hide cgroup v2 from crun: %v", err)
			}
		}
		do()
	}()
	<-done
}
