package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// enough effects of an attempt that any other that still ran beside it would
// have written between them.
const enough = 25

// effectsOf waits until the n-th attempt has taken effect often.
func effectsOf(t *testing.T, ctx context.Context, l *ledger, n int) {
	t.Helper()
	until(t, ctx, fmt.Sprintf("effects of attempt %d", n), func(context.Context) error {
		effects, err := l.read()
		if err != nil {
			return err
		}
		names := attempts(effects)
		if len(names) < n {
			return fmt.Errorf("%d attempts", len(names))
		}
		done := 0
		for _, e := range effects {
			if e.attempt == names[n-1] {
				done++
			}
		}
		if done < enough {
			return fmt.Errorf("%d effects", done)
		}
		return nil
	})
}

// A node whose cable is pulled goes on living: it must kill its tasks before
// anyone else may run them.
//
// guards P3
func TestCutOffWorkerKillsItsTasksFirst(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	w := layWires(t, 3)
	c := start(t, ctx, w.options())
	_, others := leader(t, ctx, c)
	victim, rest := others[0], slices.DeleteFunc(slices.Clone(c.Nodes), func(n *cluster.Node) bool { return n == others[0] })
	l := newLedger(t)
	cl := dial(t, c, rest[0])

	id := runOn(t, ctx, cl, c, victim, l.task("ledger")).ID
	effectsOf(t, ctx, l, 1)
	w.cut(slices.Index(c.Nodes, victim))
	task := reach(t, ctx, cl, id, "running as attempt 2", attempt(2))
	if task.Node == victim.ID {
		t.Errorf("a lost node was given a task: %s", describe(task))
	}
	effectsOf(t, ctx, l, 2)

	// The old attempt must be gone for good, also once its node is back.
	w.mend(slices.Index(c.Nodes, victim))
	until(t, ctx, "the node to be ready again", nodeState(cl, victim.ID, "ready"))
	finishLedger(t, ctx, cl, l, id)
}

// guards P3
func TestKilledWorkersTasksDieWithIt(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	_, others := leader(t, ctx, c)
	l := newLedger(t)
	cl := dial(t, c, others[1])
	id := runOn(t, ctx, cl, c, others[0], l.task("ledger")).ID
	effectsOf(t, ctx, l, 1)
	kill(t, others[0])
	effectsOf(t, ctx, l, 2)
	restart(t, ctx, c, others[0])
	finishLedger(t, ctx, cl, l, id)
}

// finishLedger ends the task and judges the whole ledger.
func finishLedger(t *testing.T, ctx context.Context, cl *client.Client, l *ledger, id string) {
	t.Helper()
	if _, err := cl.Cancel(ctx, id); err != nil {
		t.Fatal(err)
	}
	wait(t, ctx, cl, id, "cancelled")
	effects, err := l.read()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(attempts(effects)); n < 2 { // a starved machine may lose another lease
		t.Errorf("%d attempts took effect, want two or more", n)
	}
	if found := overlap(effects); found != "" {
		t.Error(found)
	}
}
