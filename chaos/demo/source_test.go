package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The direct computation and the shell must agree on awkward bytes, or the
// demo would blame the cluster.
func TestDirectAgreesWithTheShell(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.go":      "package a\n\n\t// → non-ASCII \xff\xfe words\u00a0here\n",
		"b.go":      "z\na b\va\n \n" + strings.Repeat("x", 70_000) + "\n",
		"c_test.go": "last line without an end",
		"d.txt":     "not counted\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("d.txt", filepath.Join(dir, "e.go")); err != nil {
		t.Fatal(err)
	}
	here := strings.NewReplacer("cd /src", "cd "+dir, "/tmp/all", filepath.Join(dir, "all")).Replace(script)
	out, err := exec.Command("sh", "-c", here).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want, err := direct(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != want {
		t.Fatalf("the shell says %q, the direct computation %q", got, want)
	}
}

func TestPackages(t *testing.T) {
	root, err := FindSource()
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := packages(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) < 200 || len(dirs) > 400 {
		t.Errorf("%d packages, want some 250 to 350", len(dirs))
	}
	if !slices.Contains(dirs, "net/http") || slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(d, "cmd") }) {
		t.Error("the list lacks net/http or holds commands")
	}
}
