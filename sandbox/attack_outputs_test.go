package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Threats by what a task leaves in a folder that somebody looks into afterwards:
// the next task that is granted what it made, and the host.

// terabytes is how long the sparse file is.
const terabytes = 8 << 40

// outputs has a task fill a writable folder of the host.
func outputs(t *testing.T, r *Runtime, secret string) (string, outcome) {
	t.Helper()
	dir := hostDir(t, 1234, 0o755, 0o644)
	o := probe(t, r, withMount(Spec{}, dir, "/data", true), "outputs", secret)
	wantExit(t, o, 0)
	return dir, o
}

func TestAttackOutputLinks(t *testing.T) {
	needRoot(t)
	secret := hostDir(t, 0, 0o755, 0o644)
	if err := os.WriteFile(filepath.Join(secret, "file"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(r *Runtime, source string) (outcome, error) {
		var out strings.Builder
		s, err := r.Start(t.Context(), withDefaults(withMount(shell("cat /in/file /in 2>/dev/null"), source, "/in", false)), Streams{Stdout: &out})
		if err != nil {
			return outcome{}, err
		}
		return outcome{Result: s.Wait(), stdout: out.String()}, nil
	}
	links := []string{"link", "link/file", "dotdot", "file-link", "deep/link"}
	both(t, func(t *testing.T, r *Runtime) {
		dir, o := outputs(t, r, secret)
		if missing := missingLines(o, answers("ok", "link", "dotdot", "file-link", "deep")); missing != nil {
			t.Fatalf("want %q: %s", missing, o)
		}
		for _, name := range links {
			var bad *ErrInvalidSpec
			if o, err := read(r, filepath.Join(dir, name)); !errors.As(err, &bad) || !strings.Contains(bad.Reason, "symbolic link") {
				t.Errorf("%s was granted: %v, %s", name, err, o)
			}
		}
		// Inside, it leads to what the root there has under that name.
		if o, err := read(r, dir); err != nil || strings.Contains(o.stdout, "secret") {
			t.Errorf("a link in a grant leads out: %v, %s", err, o)
		}
		in := withMount(shell("cat /in/link/file /in/dotdot/file /in/file-link"), dir, "/in", false)
		if o := runSpec(t, r, in); strings.Contains(o.stdout, "secret") {
			t.Errorf("a link in a grant leads out: %s", o)
		}
	})
	r := testRuntime(t, ctlLinks)
	dir, _ := outputs(t, r, secret)
	for _, name := range links {
		if o, err := read(r, filepath.Join(dir, name)); err != nil || !strings.Contains(o.stdout, "secret") {
			t.Errorf("where links are followed %s should lead to the secret: %v, %s", name, err, o)
		}
	}
}

// A FIFO that nobody writes to would hang who opens it, a socket is somebody's
// door, a device is the machine's.
func TestAttackOutputSpecialFiles(t *testing.T) {
	needRoot(t)
	kinds := map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK}
	both(t, func(t *testing.T, r *Runtime) {
		dir, o := outputs(t, r, "/none")
		want := append(answers("ok", "fifo", "socket"), answers("EPERM", "char", "block", "setuid", "setuid-dir")...)
		if missing := missingLines(o, want); missing != nil {
			t.Errorf("want %q: %s", missing, o)
		}
		for name, kind := range kinds {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mode&unix.S_IFMT != kind || st.Uid != 1234 {
				t.Errorf("%s: mode %o of user %d, %v", name, st.Mode, st.Uid, err)
			}
			_, err := r.Start(t.Context(), withDefaults(withMount(shell("true"), filepath.Join(dir, name), "/in", false)), Streams{})
			var bad *ErrInvalidSpec
			if !errors.As(err, &bad) || !strings.Contains(bad.Reason, "neither a file nor a folder") {
				t.Errorf("%s was granted: %v", name, err)
			}
		}
		for _, name := range []string{"char", "block"} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				t.Errorf("there is a device %s on the host", name)
			}
		}
	})
	// The filter keeps the modes, and only a capability over the host makes devices.
	_, o := outputs(t, testRuntime(t, ctlSeccomp), "/none")
	if missing := missingLines(o, append(answers("ok", "fifo", "setuid"), answers("EPERM", "char", "block")...)); missing != nil {
		t.Errorf("without the filter want %q: %s", missing, o)
	}
	if o := onHost(t, "outputs", "/none", t.TempDir()); missingLines(o, []string{"char ok"}) != nil {
		t.Errorf("as the host's root the attack should get further: %s", o)
	}
}

// A file of terabytes that takes no space, on the host and in the scratch folder.
func TestAttackSparseOutputs(t *testing.T) {
	needRoot(t)
	both(t, func(t *testing.T, r *Runtime) {
		dir, o := outputs(t, r, "/none")
		if missing := missingLines(o, []string{"sparse ok"}); missing != nil {
			t.Fatalf("want %q: %s", missing, o)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, "sparse"), &st); err != nil || st.Size != terabytes || st.Blocks*512 > mib {
			t.Errorf("on the host: %d bytes, %d blocks, %v", st.Size, st.Blocks, err)
		}
		// Who is granted it and reads it pays with its own time and memory.
		spec := withMount(Spec{Command: []string{"/bin/dd", "if=/in", "of=/dev/null", "bs=1M", "count=256"}}, filepath.Join(dir, "sparse"), "/in", false)
		spec.Limits = Limits{MemoryBytes: hoardLimit * mib}
		if o := runSpec(t, r, spec); o.Reason != EndExit || o.Usage.MemoryPeakBytes > (hoardLimit+1)*mib {
			t.Errorf("%s", o)
		}
	})
	// In a scratch folder length is nothing, and every page that is written counts.
	fill := fmt.Sprintf("truncate -s %d /scratch/f && dd if=/dev/zero of=/scratch/f bs=4k count=512 seek=1000000 conv=notrunc", int64(terabytes))
	spec := shell(fill)
	spec.Scratch = &Scratch{Target: "/scratch", Bytes: 1 << 20, Inodes: 64}
	both(t, func(t *testing.T, r *Runtime) { wantReason(t, runSpec(t, r, spec), EndDiskLimit) })
	wantExit(t, runSpec(t, testRuntime(t, ctlTmp), spec), 0)
}

func init() { probes["outputs"] = probeOutputs }

// probeOutputs leaves what it can in /data, or the folder given.
func probeOutputs(args []string) {
	secret, dir := args[0], "/data"
	if len(args) > 1 {
		dir = args[1]
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	tell("link", os.Symlink(secret, at("link")))
	tell("dotdot", os.Symlink("../../../../../../../../../.."+secret, at("dotdot")))
	tell("file-link", os.Symlink(secret+"/file", at("file-link")))
	tell("deep", errors.Join(os.Mkdir(at("deep"), 0o755), os.Symlink(secret, at("deep/link"))))
	tell("fifo", unix.Mkfifo(at("fifo"), 0o666))
	tell("socket", unix.Mknod(at("socket"), unix.S_IFSOCK|0o666, 0))
	tell("char", unix.Mknod(at("char"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	tell("block", unix.Mknod(at("block"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
	tell("setuid", errors.Join(os.WriteFile(at("setuid"), nil, 0o755), unix.Fchmodat(unix.AT_FDCWD, at("setuid"), 0o4755, 0)))
	tell("setuid-dir", errors.Join(os.Mkdir(at("setuid-dir"), 0o755), unix.Fchmodat(unix.AT_FDCWD, at("setuid-dir"), 0o2755, 0)))
	f, err := os.Create(at("sparse"))
	if err == nil {
		err = f.Truncate(terabytes)
	}
	tell("sparse", err)
}
