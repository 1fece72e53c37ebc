package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// No secret lies on a disk in clear, and nothing at all is left of a cluster
// that has stopped.
//
// guards P6
func TestNothingInClearAndNothingLeft(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	dir := scratch(t)
	c := start(t, ctx, cluster.Options{Dir: filepath.Join(dir, "cluster")})
	cl := dial(t, c)

	canaries := map[string]string{"token": c.AdminToken}
	for _, where := range []string{"env", "stdin", "output", "argument", "name"} {
		// In the output it stands in upper case: the task makes it there.
		canaries[where] = "canary-" + where + "-7d1f3a"
	}
	canaries["output"] = strings.ToUpper(canaries["output"])
	made, err := cl.CreateToken(ctx, client.TokenRequest{Role: "submitter"})
	if err != nil {
		t.Fatal(err)
	}
	canaries["made token"] = made.Secret
	for i := range 100 {
		spec := shell(fmt.Sprintf("%s-%d", canaries["name"], i), "cat; echo canary-output-7d1f3a | tr a-z A-Z; : "+canaries["argument"])
		spec.Env = map[string]string{"SECRET": canaries["env"], "PATH": "/usr/bin:/bin"}
		spec.Stdin = canaries["stdin"]
		submit(t, ctx, cl, spec)
	}
	for task, err := range cl.List(ctx, client.ListFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		done := wait(t, ctx, cl, task.ID, "succeeded")
		if want := canaries["stdin"] + canaries["output"] + "\n"; done.Result.Tail != want {
			t.Fatalf("want %q: %s", want, describe(done))
		}
	}
	// A snapshot on every disk, and a log behind it.
	var snapshot bytes.Buffer
	if _, err := cl.SnapshotSave(ctx, &snapshot); err != nil {
		t.Fatal(err)
	}
	if err := cl.SnapshotRestore(ctx, bytes.NewReader(snapshot.Bytes())); err != nil {
		t.Fatal(err)
	}
	submit(t, ctx, cl, shell(canaries["name"], "echo "+canaries["argument"]))
	searchDisks(t, dir, canaries)
	for _, n := range c.Nodes {
		stop(t, ctx, n)
		for name, text := range canaries {
			if strings.Contains(n.Log(), text) {
				t.Errorf("node %s logs the %s", n.Addr, name)
			}
		}
	}
	searchDisks(t, dir, canaries)
	nothingLeft(t, ctx, c)
}

// searchDisks greps every file.
func searchDisks(t *testing.T, dir string, canaries map[string]string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file of a living node
		}
		files++
		for name, text := range canaries {
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%s holds the %s in clear", path, name)
			}
		}
		return err
	})
	if err != nil || files < 10 {
		t.Fatalf("searched %d files: %v", files, err)
	}
}

// nothingLeft looks for what a stopped cluster must not leave in the kernel.
func nothingLeft(t *testing.T, ctx context.Context, c *cluster.Cluster) {
	t.Helper()
	base := filepath.Dir(c.Nodes[0].Dir)
	until(t, ctx, "no process to name the cluster's folder", func(context.Context) error {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(base)) {
				return fmt.Errorf("%s: %q", f, b)
			}
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(base)) {
		t.Errorf("mounts below %s:\n%s", base, mounts)
	}
	for _, n := range c.Nodes {
		left, err := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + n.ID[:12] + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, also := range []string{socket(n), filepath.Join(n.Dir, "sandboxes")} {
			if _, err := os.Lstat(also); err == nil {
				left = append(left, also)
			}
		}
		if len(left) > 0 {
			t.Errorf("node %s left %v", n.Addr, left)
		}
	}
}
