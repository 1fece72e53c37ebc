package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Threats to what is the host's and the node's: files, descriptors, the program
// and its secrets.

func TestAttackHostFiles(t *testing.T) {
	needRoot(t)
	up := []string{"dotdot", "root", "thread-root", "cwd", "descriptor", "symlink-dotdot"}
	attack{
		probe: "paths",
		args:  []string{hostFile(t, "secret")},
		held: append(answers("ENOENT", append([]string{"plain", "symlink", "dangling-descriptor"}, up...)...),
			answers("EACCES|ENOENT|EPERM", "init-root", "init-cwd", "map-files")...),
		// Two roots have the host's tree below them, the launcher's and the init's.
		// (The kernel gives no user namespace to who has a tree above its root.)
		twins: []twin{{ctlHost | userOff, append(answers("ok", up...), "plain ENOENT")}},
	}.run(t)
}

// CVE-2024-21626: the work folder as a way through a descriptor that the runtime
// forgot to close. /proc/self is the command's process before it is executed.
func TestAttackLeakedDescriptors(t *testing.T) {
	entered := func(t *testing.T, r *Runtime) (fds []int) {
		dir := hostDir(t, 0, 0o755, 0o644)
		for fd := range 24 {
			spec := withMount(Spec{Command: []string{"/bin/pwd", "-P"}, WorkDir: fmt.Sprint("/proc/self/fd/", fd)}, dir, "/data", false)
			o := runSpec(t, r, spec)
			switch {
			case o.Reason == EndExit:
				fds = append(fds, fd)
			case o.Reason != EndStartFailed || !strings.Contains(o.Message, "work folder"):
				t.Fatalf("descriptor %d: %s", fd, o)
			}
		}
		return fds
	}
	both(t, func(t *testing.T, r *Runtime) {
		if fds := entered(t, r); fds != nil {
			t.Errorf("descriptors %v lead somewhere", fds)
		}
		o := probe(t, r, Spec{Stdin: []byte("x")}, "fds")
		if o.stdout != "0\n1\n2\n" {
			t.Errorf("the command has more than three descriptors: %s", o)
		}
	})
	if entered(t, testRuntime(t, ctlFDs)) == nil {
		t.Error("with descriptors left open the test sees nothing")
	}
	o := asProcess(t, "fds", func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{os.Stderr} })
	if !lines(o.stdout)["3"] {
		t.Errorf("one more descriptor is not seen: %s", o)
	}
}

// CVE-2019-5736: the node's program, which every command's process runs until it
// executes the command. The program here may be written to by everybody: only
// its mount forbids it.
func TestAttackOwnBinary(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	b, err := os.ReadFile(os.Args[0])
	for _, err := range []error{err, os.Chmod(dir, 0o755), os.WriteFile(program, b, 0o777), os.Chmod(program, 0o777),
		os.WriteFile(dir+"/script", []byte("#!/proc/self/exe\n"), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, way := range []string{"command", "interpreter"} {
		run := func(off control) outcome {
			return asProcess(t, "own-binary-node", func(cmd *exec.Cmd) { cmd.Path = program }, way, strconv.Itoa(int(off)), dir+"/script", newParent())
		}
		held := []string{"runs the-program", "write EROFS|ETXTBSY", "truncate EROFS", "reopen EROFS"}
		if o := run(0); missingLines(o, held) != nil {
			t.Errorf("as %s: want %q: %s", way, held, o)
		}
		// What is left is that the kernel lets nobody write to what runs.
		got := []string{"runs the-program", "truncate ETXTBSY", "reopen ETXTBSY"}
		if o := run(ctlSelf); missingLines(o, got) != nil {
			t.Errorf("as %s, with a mount that is writable: want %q: %s", way, got, o)
		}
	}
	if now, err := os.ReadFile(program); err != nil || !bytes.Equal(now, b) {
		t.Errorf("the program was changed (%v)", err)
	}
}

// What the node knows is not in the memory of what it starts.
func TestAttackNodeSecrets(t *testing.T) {
	secret := "\x7fholdfast-node-secret-" + newParent() // begins with what is rare
	t.Setenv("HOLDFAST_TEST_SECRET", secret)
	hidden := "EACCES|EPERM|ENOENT"
	attack{
		probe: "secrets",
		args:  []string{strconv.Quote(string(veil([]byte(secret))))},
		spec:  Spec{Limits: Limits{CPUMillis: 2000}},
		held:  append(answers("absent", "environ", "memory", "stdin"), answers(hidden, "init-cmdline", "init-environ", "init-memory")...),
		twins: []twin{
			{ctlDump, answers("absent", "environ", "memory", "init-environ", "init-memory")}, // there is none to read
		},
	}.run(t)
	o := onHost(t, "secrets", strconv.Quote(string(veil([]byte(secret)))))
	if missing := missingLines(o, answers("found", "environ", "memory")); missing != nil {
		t.Errorf("as a child of the node the attack should get further, want %q: %s", missing, o)
	}
}

func init() {
	probes["paths"], probes["secrets"] = probePaths, probeSecrets
	probes["own-binary"], probes["own-binary-node"] = probeOwnBinary, runOwnBinaryNode
}

// probePaths tries to read a file of the host by every kind of path.
func probePaths(args []string) {
	secret := args[0]
	up := strings.Repeat("/..", 40)
	root, _ := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	tmp, _ := unix.Open("/tmp", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	_ = os.Symlink(secret, "/tmp/link")
	_ = os.Symlink(up+secret, "/tmp/uplink")
	_ = os.Chdir("/tmp")
	for name, path := range map[string]string{
		"plain": secret, "dotdot": up + secret, "root": "/proc/self/root" + up + secret, "thread-root": "/proc/thread-self/root" + up + secret,
		"cwd": "/proc/self/cwd" + up + secret, "descriptor": fmt.Sprintf("/proc/self/fd/%d", root) + up + secret,
		"dangling-descriptor": fmt.Sprintf("/dev/fd/%d", tmp) + secret, "symlink": "/tmp/link", "symlink-dotdot": "/tmp/uplink",
		"init-root": "/proc/1/root" + up + secret, "init-cwd": "/proc/1/cwd" + up + secret, "map-files": "/proc/1/map_files" + up + secret,
	} {
		_, err := os.ReadFile(path)
		tell(name, err)
	}
}

// veil makes a text unlike itself, so that who looks for it does not find his own.
func veil(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c ^ 0x15
	}
	return out
}

func probeSecrets(args []string) {
	text, _ := strconv.Unquote(args[0])
	veiled := []byte(text)
	// The text is nowhere in this process's own memory, which is searched too.
	is := func(b []byte) bool {
		for i, c := range veiled {
			if i >= len(b) || b[i]^0x15 != c {
				return false
			}
		}
		return true
	}
	search := func(r io.ReaderAt, from, to int64) bool {
		buf := make([]byte, 1<<20)
		for at := from; at < to; at += int64(len(buf) - len(veiled)) {
			n, _ := r.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if n == 0 {
				return false
			}
			for rest := buf[:n]; ; rest = rest[1:] {
				i := bytes.IndexByte(rest, veiled[0]^0x15)
				if i < 0 {
					break
				}
				if rest = rest[i:]; is(rest) {
					return true
				}
			}
		}
		return false
	}
	say := func(what string, found bool, err error) {
		switch {
		case found:
			fmt.Println(what, "found")
		case err != nil:
			fmt.Println(what, errno(err))
		default:
			fmt.Println(what, "absent")
		}
	}
	file := func(what, name string) {
		b, err := os.ReadFile(name)
		say(what, search(bytes.NewReader(b), 0, int64(len(b))), err)
	}
	memory := func(what, pid string) {
		mem, err := os.Open("/proc/" + pid + "/mem")
		maps, merr := os.ReadFile("/proc/" + pid + "/maps")
		found := false
		for l := range strings.Lines(string(maps)) {
			var from, to int64
			var mode string
			_, _ = fmt.Sscanf(l, "%x-%x %s", &from, &to, &mode)
			// Not the shadows of the race detector: tera- and gigabytes of nothing.
			if strings.HasPrefix(mode, "r") && to-from < 64<<20 && from >= 0 {
				found = search(mem, from, to) || found
			}
		}
		if err == nil {
			err = merr
		}
		say(what, found, err)
	}
	file("environ", "/proc/self/environ")
	file("init-cmdline", "/proc/1/cmdline")
	file("stdin", "/dev/stdin")
	memory("memory", "self")
	file("init-environ", "/proc/1/environ")
	memory("init-memory", "1")
}

// probeOwnBinary is this program as its own task: argument 0 is the way to it.
func probeOwnBinary([]string) {
	fmt.Println("runs the-program")
	for name, flags := range map[string]int{"write": unix.O_WRONLY, "truncate": unix.O_WRONLY | unix.O_TRUNC} {
		fd, err := unix.Open("/proc/self/exe", flags|unix.O_CLOEXEC, 0)
		tell(name, err)
		unix.Close(fd)
	}
	// Kept over the execution of another program, it is not busy by this process.
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY, 0)
	if err != nil {
		tell("reopen", err)
		return
	}
	err = syscall.Exec("/bin/sh", []string{"sh", "-c", fmt.Sprintf(
		`exec 2>&1; e=$( { : >/proc/self/fd/%d; } 2>&1 ); case "$e" in *usy*) echo reopen ETXTBSY;; *ead-only*) echo reopen EROFS;; *) echo "reopen ok $e";; esac`, fd)}, nil)
	tell("reopen", err)
}

// runOwnBinaryNode is a node whose program is a copy of this one.
func runOwnBinaryNode(args []string) {
	off, err := strconv.Atoi(args[1])
	if err != nil {
		panic(err)
	}
	r, err := newRuntime(Config{CgroupParent: args[3]}, control(off))
	if err != nil {
		panic(err)
	}
	defer r.Close()
	spec := Spec{ID: "a", Command: []string{"/proc/self/exe"}, Env: []string{"HOLDFAST_PROBE=own-binary", "GORACE=atexit_sleep_ms=0"}}
	if args[0] == "interpreter" {
		spec.Command = []string{"/script"}
		spec.Mounts = []Mount{{Source: args[2], Target: "/script"}}
	}
	s, err := r.Start(neverEnds{}, spec, Streams{Stdout: os.Stdout, Stderr: os.Stderr})
	if err != nil {
		panic(err)
	}
	if res := s.Wait(); res.Reason != EndExit {
		fmt.Println(res)
	}
}
