package e2e

import (
	"fmt"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
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
	again, fails := shell("again", forever), shell("fails", forever)
	fails.OnLost = "fail"

	// The scheduler spreads; submit until each kind runs on the victim.
	var onVictim, elsewhere []string
	var onVictimFails string
	for i := 0; len(onVictim) == 0 || onVictimFails == "" || len(elsewhere) == 0; i++ {
		spec := again
		if i%2 == 1 {
			spec = fails
		}
		spec.Name = fmt.Sprintf("%s-%d", spec.Name, i)
		task := submit(t, ctx, cl, spec)
		task = reach(t, ctx, cl, task.ID, "running", running)
		switch {
		case task.Node != victim.ID:
			elsewhere = append(elsewhere, task.ID)
		case spec.OnLost == "fail":
			onVictimFails = task.ID
		default:
			onVictim = append(onVictim, task.ID)
		}
	}
	kill(t, victim)

	for _, id := range onVictim {
		task := reach(t, ctx, cl, id, "running as attempt 2", func(task *client.Task) bool { return running(task) && task.Attempt == 2 })
		if task.Node == victim.ID {
			t.Errorf("a dead node was given a task: %s", describe(task))
		}
	}
	task := wait(t, ctx, cl, onVictimFails, "failed")
	if task.Attempt != 1 || task.Result.Reason != "lost" {
		t.Errorf("on_lost: fail was not obeyed: %s", describe(task))
	}
	for _, id := range elsewhere {
		task, err := cl.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if !running(task) || task.Attempt != 1 {
			t.Errorf("a node's death disturbed a task of another: %s", describe(task))
		}
	}
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
