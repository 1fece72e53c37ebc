package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// A snapshot of one cluster, saved and restored by the commands, becomes the
// work of another: the second keeps its identity, what was queued or running
// is done there, and nodes can still join.
func TestSnapshotMovesToAnotherCluster(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	old := start(t, ctx, cluster.Options{Nodes: 1})
	cl := dial(t, old)
	done := submit(t, ctx, cl, shell("done", "echo done"))
	wait(t, ctx, cl, done.ID, "succeeded")
	l := newLedger(t)
	gated := shell("runs", "until [ -e /gate/open ]; do sleep 0.05; done; echo opened")
	gated.Mounts = []client.Mount{{Source: l.dir, Target: "/gate"}}
	runs := submit(t, ctx, cl, gated)
	reach(t, ctx, cl, runs.ID, "running", running)
	if _, err := cl.Drain(ctx, old.Nodes[0].ID, true); err != nil {
		t.Fatal(err)
	}
	queued := submit(t, ctx, cl, shell("queued", "echo late"))
	viewer, err := cl.CreateToken(ctx, client.TokenRequest{Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}

	dir := scratch(t)
	file, key := filepath.Join(dir, "cluster.hfsnap"), filepath.Join(dir, "backup.key")
	if code, say := exitCode(t, ctx, old, "snapshot", "save", "--new-key-file", key, file, "--socket", socket(old.Nodes[0])); code != 0 {
		t.Fatalf("save: status %d: %s", code, say)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("queued")) || bytes.Contains(b, []byte("/gate/open")) {
		t.Error("the saved snapshot shows tasks in clear")
	}
	kill(t, old.Nodes...)
	if err := os.WriteFile(filepath.Join(l.dir, "open"), nil, 0o644); err != nil {
		t.Fatal(err)
	}

	next := start(t, ctx, cluster.Options{})
	before, err := next.Status(ctx, next.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	lead, others := leader(t, ctx, next)
	flipped := filepath.Join(dir, "flipped.hfsnap")
	b[len(b)/2] ^= 1
	if err := os.WriteFile(flipped, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _ := exitCode(t, ctx, next, "snapshot", "restore", "--yes", "--key-file", key, flipped, "--socket", socket(lead)); code == 0 {
		t.Error("a damaged snapshot was restored")
	}
	if code, say := exitCode(t, ctx, next, "snapshot", "restore", "--yes", "--key-file", key, file, "--socket", socket(others[0])); code != 0 {
		t.Fatalf("restore: status %d: %s", code, say)
	}

	// The tokens are those of the snapshot now; the owner's socket stays.
	local, err := client.New(client.Config{UnixSocket: socket(lead)})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for id, tail := range map[string]string{done.ID: "done\n", runs.ID: "opened\n", queued.ID: "late\n"} {
		if task := wait(t, ctx, local, id, "succeeded"); task.Result.Tail != tail {
			t.Errorf("want %q: %s", tail, describe(task))
		}
	}
	next.AdminToken = old.AdminToken
	reader, err := client.New(client.Config{Addrs: []string{others[1].Addr}, Token: viewer.Secret, CAPin: next.CAPin})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	after, err := reader.Cluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if after.ClusterID != before.ClusterID || after.CAPin != before.CAPin || len(after.Members) != len(before.Members) {
		t.Errorf("the cluster was %+v and is %+v", before, after)
	}
	if _, err := next.Grow(ctx); err != nil {
		t.Errorf("join after the restore: %v", err)
	}
	// Every node has the restored state, also after a restart.
	for _, n := range next.Nodes {
		stop(t, ctx, n)
		restart(t, ctx, next, n)
		wait(t, ctx, dial(t, next, n), queued.ID, "succeeded")
	}
}
