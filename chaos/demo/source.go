package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/client"
)

// script is the command line that every task runs: lines, words and bytes of
// the directory's Go files together, and the SHA-256 of their sorted lines.
//
// wc -w is left out on purpose: whether bytes that are not printable make a
// word changed between versions of coreutils.
const script = `set -eu
export LC_ALL=C
cd /src
find . -maxdepth 1 -type f -name '*.go' | sort | xargs cat >/tmp/all
words=$(tr -s '[:space:]' '\n' </tmp/all | grep -ac . || true)
echo "$(wc -l </tmp/all) $words $(wc -c </tmp/all) $(sort /tmp/all | sha256sum | cut -d' ' -f1)"`

// spec is the task for one directory.
func spec(root, dir string) client.TaskSpec {
	return client.TaskSpec{
		Name:    "count " + dir,
		Command: []string{"sh", "-c", script},
		Env:     map[string]string{"PATH": "/usr/bin:/bin"},
		Mounts:  []client.Mount{{Source: filepath.Join(root, dir), Target: "/src"}},
	}
}

// FindSource gives the source folder of the Go standard library on this
// machine.
func FindSource() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	root := strings.TrimSpace(string(out))
	if err != nil || root == "" {
		return "", fmt.Errorf("find the Go standard library with go env GOROOT: %w; name a folder with --source", err)
	}
	return filepath.EvalSymlinks(filepath.Join(root, "src"))
}

// packages lists the directories below root that hold .go files of their own,
// relative to it: the packages that a program can import, not commands, test
// data or vendored copies.
func packages(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.IsDir() {
			if name := d.Name(); rel == "cmd" || name == "testdata" || name == "vendor" {
				return filepath.SkipDir
			}
			return nil
		}
		if dir := filepath.Dir(rel); d.Type().IsRegular() && isSource(d.Name()) && (len(dirs) == 0 || dirs[len(dirs)-1] != dir) {
			dirs = append(dirs, dir)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for Go packages in %s: %w", root, err)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	if len(dirs) == 0 {
		return nil, fmt.Errorf("no directory with .go files in %s", root)
	}
	return dirs, nil
}

func isSource(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

// direct computes what the task for a directory must print.
func direct(dir string) (string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	var all []byte
	for _, n := range names {
		if info, err := os.Lstat(n); err != nil || !info.Mode().IsRegular() {
			continue
		}
		b, err := os.ReadFile(n)
		if err != nil {
			return "", err
		}
		all = append(all, b...)
	}
	words := bytes.FieldsFunc(all, func(r rune) bool { return r < 0x80 && strings.ContainsRune(" \t\n\v\f\r", r) })
	lines := bytes.SplitAfter(all, []byte("\n"))
	if n := len(lines) - 1; len(lines[n]) == 0 {
		lines = lines[:n]
	} else {
		lines[n] = append(bytes.Clone(lines[n]), '\n') // as sort does
	}
	// sort compares lines without their ends.
	slices.SortFunc(lines, func(a, b []byte) int { return bytes.Compare(a[:len(a)-1], b[:len(b)-1]) })
	sum := sha256.New()
	for _, l := range lines {
		sum.Write(l)
	}
	return fmt.Sprintf("%d %d %d %s", bytes.Count(all, []byte("\n")), len(words), len(all), hex.EncodeToString(sum.Sum(nil))), nil
}
