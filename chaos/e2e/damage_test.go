package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// A node whose files were changed or lost serves nothing and says which and
// where; it votes no more under its name, and a new node takes its place.
//
// guards P1
func TestDamagedNodesRefuseAndAreRebuilt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	lead, others := leader(t, ctx, c)
	cl := dial(t, c, lead)
	var ids []string
	for i := range 20 {
		ids = append(ids, submit(t, ctx, cl, shell(fmt.Sprintf("kept-%d", i), "echo kept")).ID)
	}
	for _, id := range ids {
		wait(t, ctx, cl, id, "succeeded")
	}
	// A restore puts a snapshot on every node's disk.
	var snapshot bytes.Buffer
	if _, err := cl.SnapshotSave(ctx, &snapshot); err != nil {
		t.Fatal(err)
	}
	if err := cl.SnapshotRestore(ctx, bytes.NewReader(snapshot.Bytes())); err != nil {
		t.Fatal(err)
	}
	var state string
	until(t, ctx, "a snapshot on the follower's disk", func(context.Context) (err error) {
		state, err = largestFile(filepath.Join(others[0].Dir, "snapshots"))
		return err
	})
	submit(t, ctx, cl, shell("behind-the-snapshot", "true"))

	sick := others[0]
	stop(t, ctx, sick)
	intact := copyOf(t, sick.Dir)
	var entry uint64
	cases := []struct {
		name   string
		damage func()
		says   func() []string
	}{
		{"an entry of the log", func() { entry = damageLastEntry(t, filepath.Join(sick.Dir, "log.db")) },
			func() []string {
				return []string{filepath.Join(sick.Dir, "log.db"), fmt.Sprintf("entry %d", entry), "damaged"}
			}},
		{"the snapshot", func() { flipInTheMiddle(t, state) },
			func() []string { return []string{filepath.Dir(state), "damaged"} }},
		{"the log is gone", func() { removeFiles(t, sick.Dir, "log.*") },
			func() []string { return []string{"holdfast nodes remove " + sick.ID, "join again"} }},
		{"all but the keys is gone", func() { removeFiles(t, sick.Dir, "log.*", "identity", "snapshots") },
			func() []string { return []string{"holdfast nodes remove " + sick.ID, "join again"} }},
	}
	for _, damaged := range cases {
		damaged.damage()
		refusesToStart(t, ctx, c, sick, damaged.name, damaged.says()...)
		putBack(t, intact, sick.Dir)
	}
	restart(t, ctx, c, sick)
	wait(t, ctx, dial(t, c, sick), ids[0], "succeeded")

	// Not even a fresh join token makes its old key a voter with an empty log.
	stop(t, ctx, sick)
	removeFiles(t, sick.Dir, "log.*", "identity", "snapshots", "node.crt", "ca.crt")
	token, err := cl.CreateToken(ctx, client.TokenRequest{Role: "node"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Holdfast(ctx, sick, nil, "join", "--token", token.Secret, "--addr", lead.Addr, "--data", sick.Dir, "--listen", sick.Addr)
	if err == nil || !strings.Contains(err.Error(), "belongs to the cluster already") {
		t.Errorf("the emptied node joined again under its old identity: %v", err)
	}

	if err := cl.RemoveNode(ctx, sick.ID); err != nil {
		t.Fatal(err)
	}
	fresh, err := c.Grow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		wait(t, ctx, dial(t, c, fresh), id, "succeeded")
	}
}

// refusesToStart starts a node that must end by itself, with a status and a
// log that names what is wrong, and must not become a healthy voter before.
func refusesToStart(t *testing.T, ctx context.Context, c *cluster.Cluster, n *cluster.Node, what string, says ...string) {
	t.Helper()
	if err := c.StartNode(n); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if code := ended(t, short, n); code != 1 {
		t.Errorf("%s: it ended with status %d\n%s", what, code, n.Log())
	}
	lines := strings.Split(strings.TrimSpace(n.Log()), "\n")
	last := strings.Join(lines[max(0, len(lines)-4):], "\n")
	for _, want := range says {
		if !strings.Contains(last, want) {
			t.Errorf("%s: the end of the log does not name %q:\n%s", what, want, last)
		}
	}
}

// stop ends a node politely.
func stop(t *testing.T, ctx context.Context, n *cluster.Node) {
	t.Helper()
	if err := n.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := ended(t, ctx, n); code != 0 {
		t.Fatalf("node %s ended with status %d\n%s", n.Addr, code, n.Log())
	}
}

// damageLastEntry flips a byte of the newest entry of a stopped node's log,
// below the database, and returns the entry's index.
func damageLastEntry(t *testing.T, path string) uint64 {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var index uint64
	var value []byte
	err = db.View(func(tx *bbolt.Tx) error {
		k, v := tx.Bucket([]byte("logs")).Cursor().Last()
		index, value = binary.BigEndian.Uint64(k), slices.Clone(v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for at := 0; ; {
		i := bytes.Index(b[at:], value)
		if i < 0 {
			break
		}
		at += i
		b[at+len(value)/2] ^= 0x10
		at, found = at+len(value), found+1
	}
	if found == 0 {
		t.Fatal("the entry is not in the file as it is read")
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return index
}

func flipInTheMiddle(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func removeFiles(t *testing.T, dir string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		paths, err := filepath.Glob(filepath.Join(dir, p))
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s in %s: %v, %v", p, dir, paths, err)
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// largestFile finds the state in the folder of snapshots.
func largestFile(dir string) (string, error) {
	path, size := "", int64(-1)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			path, size = p, info.Size()
		}
		return err
	})
	if err == nil && path == "" {
		err = fmt.Errorf("no file in %s", dir)
	}
	return path, err
}

// copyOf keeps a copy of a folder; putBack makes the folder like it again.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(scratch(t), "copy")
	command(t, "cp", "-a", dir, to)
	return to
}

func putBack(t *testing.T, from, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	command(t, "cp", "-a", from, dir)
}
