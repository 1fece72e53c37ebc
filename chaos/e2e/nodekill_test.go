package e2e

import (
	"testing"

	"holdfast/chaos/cluster"
)

// A node dies in the middle of tasks: they run again elsewhere, unless they
// asked not to, and nobody else notices.
//
// guards P1 P2 P3
func TestWorkerKilledInMidTask(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	_, others := leader(t, ctx, c)
	victim := others[0]
	cl := dial(t, c, others[1])
	fails := shell("fails", forever)
	fails.OnLost = "fail"
	again := runOn(t, ctx, cl, c, victim, shell("again", forever))
	lost := runOn(t, ctx, cl, c, victim, fails)
	elsewhere := runOn(t, ctx, cl, c, others[1], shell("elsewhere", forever))
	kill(t, victim)

	task := reach(t, ctx, cl, again.ID, "running as attempt 2", attempt(2))
	if task.Node == victim.ID {
		t.Errorf("a dead node was given a task: %s", describe(task))
	}
	task = wait(t, ctx, cl, lost.ID, "failed")
	if task.Attempt != 1 || task.Result.Reason != "lost" {
		t.Errorf("on_lost: fail was not obeyed: %s", describe(task))
	}
	undisturbed(t, ctx, cl, elsewhere.ID)
	until(t, ctx, "the dead node to be called lost", nodeState(cl, victim.ID, "lost"))

	// It comes back as the node that it was and works again.
	restart(t, ctx, c, victim)
	until(t, ctx, "the node to be ready again", nodeState(cl, victim.ID, "ready"))
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}
	kill(t, others[1])
	cl = dial(t, c, victim)
	done := submit(t, ctx, cl, shell("with-two-of-three", "echo fine"))
	wait(t, ctx, cl, done.ID, "succeeded")
}
