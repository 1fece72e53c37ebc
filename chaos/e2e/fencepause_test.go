package e2e

import (
	"testing"

	"holdfast/chaos/cluster"
)

// A node whose process is stopped cannot kill its tasks: something outside of
// it must, before its lease is over.
//
// guards P3
func TestStoppedWorkersTasksDieWithItsLease(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	_, others := leader(t, ctx, c)
	victim := others[0]
	l := newLedger(t)
	cl := dial(t, c, others[1])
	id := runOn(t, ctx, cl, c, victim, l.task("ledger")).ID
	effectsOf(t, ctx, l, 1)
	if err := victim.Pause(); err != nil {
		t.Fatal(err)
	}
	reach(t, ctx, cl, id, "running as attempt 2", attempt(2))
	effectsOf(t, ctx, l, 2)
	if err := victim.Resume(); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "the node to be ready again", nodeState(cl, victim.ID, "ready"))
	finishLedger(t, ctx, cl, l, id)
}
