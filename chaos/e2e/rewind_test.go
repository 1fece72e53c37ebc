package e2e

import (
	"bytes"
	"testing"

	"holdfast/chaos/cluster"
)

// A snapshot from before a task's attempt brings the task back as queued: the
// worker that has run the attempt under the same number must run it again.
func TestRestoreOfTheSameClusterRunsTasksAgain(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Nodes: 1})
	cl := dial(t, c)
	if _, err := cl.Drain(ctx, c.Nodes[0].ID, true); err != nil {
		t.Fatal(err)
	}
	task := submit(t, ctx, cl, shell("again", "echo ran"))
	stuck := submit(t, ctx, cl, shell("beside", forever))
	var snapshot bytes.Buffer
	if _, err := cl.SnapshotSave(ctx, &snapshot); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Drain(ctx, c.Nodes[0].ID, false); err != nil {
		t.Fatal(err)
	}
	wait(t, ctx, cl, task.ID, "succeeded")
	reach(t, ctx, cl, stuck.ID, "running", running)

	if err := cl.SnapshotRestore(ctx, bytes.NewReader(snapshot.Bytes())); err != nil {
		t.Fatal(err)
	}
	wait(t, ctx, cl, task.ID, "succeeded")
	reach(t, ctx, cl, stuck.ID, "running", running)
	if _, err := cl.Cancel(ctx, stuck.ID); err != nil {
		t.Fatal(err)
	}
	wait(t, ctx, cl, stuck.ID, "cancelled")
}
