package sandbox

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// rootFolder makes a root with a shell and what it needs.
func rootFolder(t *testing.T) string {
	t.Helper()
	root, err := os.MkdirTemp("/var/tmp", "holdfast-root-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	files := []string{"/bin/sh"}
	for _, p := range []string{"/lib/*/libc.so.6", "/lib64/ld-linux*", "/lib/ld-linux*"} {
		found, _ := filepath.Glob(p)
		files = append(files, found...)
	}
	for _, name := range files {
		from, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
		if err == nil {
			_, err = io.Copy(f, from)
			f.Close()
		}
		from.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRootFolder(t *testing.T) {
	needRoot(t)
	root := rootFolder(t)
	r, err := newRuntime(Config{CgroupParent: newParent(), Root: root}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	o := runSpec(t, r, shell("echo /bin/* /usr* /etc/passwd; : > /bin/new"))
	if o.stdout != "/bin/sh /usr* /etc/passwd\n" || o.ExitCode == 0 {
		t.Errorf("%s", o)
	}
	if _, err := os.Lstat(root + "/bin/new"); err == nil {
		t.Error("the root was written to")
	}
	empty := t.TempDir()
	closed := filepath.Join(empty, "closed")
	if err := os.MkdirAll(closed+"/usr", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"/", "usr", root + "/", filepath.Dir(empty), "/no/such", closed} {
		if _, err := newRuntime(Config{CgroupParent: newParent(), Root: bad}, 0); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
