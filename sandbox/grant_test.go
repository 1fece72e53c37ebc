package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// hostDir makes a folder with a file, both of the given owner and mode.
func hostDir(t *testing.T, owner int, dirMode, fileMode os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for _, err := range []error{
		os.WriteFile(file, []byte("text"), fileMode),
		os.Chmod(file, fileMode), os.Chown(file, owner, owner),
		os.Chmod(dir, dirMode), os.Chown(dir, owner, owner),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// guards P7
func TestReadOnlyGrant(t *testing.T) { both(t, testReadOnlyGrant) }

func testReadOnlyGrant(t *testing.T, r *Runtime) {
	dir := hostDir(t, 0, 0o777, 0o666) // nothing but the mount protects it
	o := runSpec(t, r, withMount(shell("cat /data/file; echo x > /data/file; echo y > /data/new; rm -f /data/file; chmod 600 /data/file; ls /data/.."), dir, "/data", false))
	wantExit(t, o, 0)
	if strings.Count(o.stderr, "Read-only file system") != 4 || !strings.HasPrefix(o.stdout, "text") {
		t.Errorf("%s", o)
	}
	b, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil || string(b) != "text" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

// Each of the two walls around a read-only grant holds alone.
func TestReadOnlyGrantHasTwoWalls(t *testing.T) {
	dir := hostDir(t, 0, 0o777, 0o666)
	try := withMount(shell("echo x > /data/file"), dir, "/data", false)
	for _, c := range []struct {
		off  control
		want string
	}{{ctlLandlock, "Read-only"}, {ctlGrants, "Permission denied"}, {ctlGrants | ctlLandlock, ""}} {
		r := testRuntime(t, c.off)
		if landlockABI() == 0 && c.off == ctlGrants {
			continue // this kernel has but one
		}
		o := runSpec(t, r, try)
		if c.want == "" && o.stderr != "" || !strings.Contains(o.stderr, c.want) {
			t.Errorf("with control %b off want %q: %s", c.off, c.want, o)
		}
	}
}

func withMount(s Spec, source, target string, writable bool) Spec {
	s.Mounts = append(s.Mounts, Mount{Source: source, Target: target, Writable: writable})
	return s
}

// The owner of the folder owns what the task makes, whatever user it ran as.
func TestWritableGrantKeepsTheOwner(t *testing.T) {
	r := testRuntime(t, 0)
	dir := hostDir(t, 1234, 0o700, 0o600)
	o := runSpec(t, r, withMount(shell("cat /data/file && id -u && stat -c %u:%g /data && mkdir /data/sub && echo new > /data/sub/new && chmod 4755 /data/sub/new"), dir, "/data", true))
	wantExit(t, o, 1) // the setuid bit was refused
	if o.stdout != "text1000\n1000:1000\n" {
		t.Errorf("%s", o)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "sub/new"), &st); err != nil || st.Uid != 1234 || st.Gid != 1234 || st.Mode&0o7000 != 0 {
		t.Errorf("on the host: user %d, group %d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}

// What belongs to neither the owner nor everybody stays closed.
func TestGrantDoesNotOpenOthersFiles(t *testing.T) { both(t, testGrantDoesNotOpenOthersFiles) }

func testGrantDoesNotOpenOthersFiles(t *testing.T, r *Runtime) {
	dir := hostDir(t, 1234, 0o755, 0o644)
	for name, owner := range map[string]int{"root": 0, "other": 4321} {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(f, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	for _, writable := range []bool{false, true} {
		o := runSpec(t, r, withMount(shell("cat /data/root /data/other; rm -f /tmp/x; chmod 666 /data/root; stat -c %u /data/root"), dir, "/data", writable))
		if strings.Contains(o.stdout, "secret") || !strings.Contains(o.stdout, "65534") {
			t.Errorf("%s", o)
		}
	}
}

func TestGrantedFile(t *testing.T) { both(t, testGrantedFile) }

func testGrantedFile(t *testing.T, r *Runtime) {
	o := runSpec(t, r, withMount(withMount(shell("cat /a/b/c /tmp/deep/file"), hostFile(t, "one"), "/a/b/c", false), hostFile(t, "two"), "/tmp/deep/file", false))
	wantExit(t, o, 0)
	if o.stdout != "onetwo" {
		t.Errorf("%s", o)
	}
}

// The largest spec that is valid fits everywhere.
func TestLargestSpec(t *testing.T) { both(t, testLargestSpec) }

func testLargestSpec(t *testing.T, r *Runtime) {
	file := hostFile(t, "x")
	spec := shell(`for f in "$@"; do n=$((n+1)); done; cat $(find /g* -type f | head -100) | wc -c; echo $n`)
	for i := range maxMounts {
		part := fmt.Sprintf("/g%030d", i)
		spec = withMount(spec, file, strings.Repeat(part, maxDepth), false)
	}
	for len(spec.Command) < maxCommand {
		spec.Command = append(spec.Command, strings.Repeat("x", 80))
	}
	for len(spec.Env) < maxEnv-1 {
		spec.Env = append(spec.Env, "A=bcdef")
	}
	o := runSpec(t, r, spec)
	wantExit(t, o, 0)
	if o.stdout != "64\n1020\n" {
		t.Errorf("%s", o)
	}
}

// A grant covers one file system and not what is mounted below.
func TestGrantStopsAtMounts(t *testing.T) {
	needRoot(t)
	dir := hostDir(t, 0, 0o755, 0o644)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	r := testRuntime(t, 0)
	if err := unix.Mount("tmpfs", sub, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(sub, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(sub, "below"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o := runSpec(t, r, withMount(shell("ls /data /data/sub"), dir, "/data", false))
	wantExit(t, o, 0)
	if strings.Contains(o.stdout, "below") {
		t.Errorf("%s", o)
	}
}

func TestGrantsRefused(t *testing.T) {
	r := testRuntime(t, 0)
	dir := hostDir(t, 0, 0o755, 0o644)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		m    Mount
		want string
	}{
		{Mount{Source: link, Target: "/x"}, "symbolic link"},
		{Mount{Source: link + "/ssl", Target: "/x"}, "symbolic link"},
		{Mount{Source: dir + "/none", Target: "/x"}, "no such file"},
		{Mount{Source: dir + "/sock", Target: "/x"}, "neither a file nor a folder"},
		{Mount{Source: "/proc/self", Target: "/x"}, "symbolic link"},
		{Mount{Source: "/proc/1", Target: "/x"}, "window into the kernel"},
		{Mount{Source: "/proc/self/root", Target: "/x"}, "symbolic link"},
		{Mount{Source: "/sys/kernel", Target: "/x"}, "window into the kernel"},
		{Mount{Source: "/dev/shm", Target: "/x"}, "devices"},
		{Mount{Source: dir, Target: "/x", Writable: true}, "ordinary user"},
	} {
		_, err := r.Start(t.Context(), Spec{ID: newID(), Command: []string{"true"}, Mounts: []Mount{c.m}}, Streams{})
		var bad *ErrInvalidSpec
		if !errors.As(err, &bad) || bad.Field != "Mounts[0].Source" || !strings.Contains(bad.Reason, c.want) {
			t.Errorf("%v: want %q, got %v", c.m, c.want, err)
		}
	}
}

// A command that hands its stdout to a process outside cannot hold up Wait.
func TestPassedStdoutDoesNotHang(t *testing.T) {
	r := testRuntime(t, 0)
	dir := hostDir(t, 1234, 0o777, 0o644)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(filepath.Join(dir, "sock"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "sock"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	got := make(chan []int, 1)
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			got <- nil
			return
		}
		oob := make([]byte, 64)
		_, n, _, _, err := c.ReadMsgUnix(make([]byte, 8), oob)
		if err != nil {
			got <- nil
		} else {
			got <- rights(oob[:n])
		}
		c.Close()
	}()
	o := probe(t, r, withMount(Spec{}, dir, "/data", true), "pass", "/data/sock")
	fds := <-got
	if len(fds) != 1 {
		t.Fatalf("nothing was passed: %s", o)
	}
	closeAll(fds)
	wantExit(t, o, 0)
}
