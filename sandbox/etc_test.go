package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCopySmall(t *testing.T) {
	from := t.TempDir()
	for name, size := range map[string]int{"a": 10, "sub/b": 1000} {
		file := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(strings.Repeat("x", size)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "to")
	if err := copySmall(from, to); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(to, "sub/b"))
	if err != nil || len(b) != 1000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if link, err := os.Readlink(filepath.Join(to, "link")); link != "/etc/shadow" {
		t.Errorf("the link became %q, %v", link, err)
	}
	if st, err := os.Stat(filepath.Join(to, "a")); err != nil || st.Mode().Perm() != 0o444 {
		t.Errorf("%v, %v", st, err)
	}
	// What is large is left out whole.
	if err := os.WriteFile(filepath.Join(from, "z"), make([]byte, maxCopiedBytes), 0o644); err != nil {
		t.Fatal(err)
	}
	to += "2"
	if err := copySmall(from, to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(to); err == nil {
		t.Error("part of a large folder was copied")
	}
}

// What others may not read stays unread: the launcher is nobody on the host.
func TestEtcShowsNothingClosed(t *testing.T) {
	needRoot(t)
	root := rootFolder(t)
	dir := filepath.Join(root, "etc/java-99-openjdk")
	for _, err := range []error{
		os.MkdirAll(dir+"/closed", 0o755), os.WriteFile(dir+"/open", []byte("open"), 0o644),
		os.WriteFile(dir+"/key", []byte("secret"), 0o600), os.WriteFile(dir+"/closed/x", []byte("secret"), 0o644), os.Chmod(dir+"/closed", 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := newRuntime(Config{CgroupParent: newParent(), Root: root}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o := runSpec(t, r, shell("cd /etc/java-99-openjdk && echo * closed/* && read x < open; echo $x; : > new"))
	if o.stdout != "closed open closed/*\nopen\n" || o.ExitCode == 0 {
		t.Errorf("%s", o)
	}
}
