package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// guards P1 P6
func TestNodesLeaveForGood(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Nodes: 4, Env: []string{"HOLDFAST_DRAIN=20s"}})
	lead, others := leader(t, ctx, c)
	cl := dial(t, c, lead)
	until(t, ctx, "three voters", voters(c, 3))

	// One leaves by its own wish: its tasks get their time, its process ends.
	leaver := others[0]
	task := runOn(t, ctx, cl, c, leaver, shell("short", "sleep 1; echo done"))
	if code, say := exitCode(t, ctx, c, "leave", "--yes", "--data", leaver.Dir); code != 0 {
		t.Fatalf("leave: status %d: %s", code, say)
	}
	if code := ended(t, ctx, leaver); code != 0 {
		t.Errorf("the node that left ended with status %d\n%s", code, leaver.Log())
	}
	if task := wait(t, ctx, cl, task.ID, "succeeded"); task.Attempt != 1 {
		t.Errorf("the task was not allowed to end before its node left: %s", describe(task))
	}
	until(t, ctx, "the node to be called removed", nodeState(cl, leaver.ID, "removed"))
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}

	// One is removed while it is down, and does not know.
	gone := others[1]
	kill(t, gone)
	if code, say := exitCode(t, ctx, c, "nodes", "remove", "--yes", gone.ID, "--socket", socket(lead)); code != 0 {
		t.Fatalf("remove: status %d: %s", code, say)
	}
	for _, n := range []*cluster.Node{leaver, gone} {
		if err := c.StartNode(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []*cluster.Node{leaver, gone} {
		short, cancel := context.WithTimeout(ctx, time.Minute)
		if code := ended(t, short, n); code != 1 || !strings.Contains(n.Log(), "removed from its cluster") {
			t.Errorf("a removed node that was started again ended with status %d\n%s", code, n.Log())
		}
		cancel()
	}

	// Two voters are left. None of them may go while it would take the
	// majority along.
	until(t, ctx, "two voters", voters(c, 2))
	rest := others[2]
	kill(t, rest)
	until(t, ctx, "the leader to give up", func(ctx context.Context) error {
		st, err := c.Status(ctx, lead)
		if err == nil && st.Leader != "" {
			err = errors.New(st.Leader)
		}
		return err
	})
	restart(t, ctx, c, rest)
	st, err := c.Status(ctx, lead)
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Members) != 2 {
		t.Errorf("members are %v", st.Members)
	}
}

// Three voters of which one is dead: the dead one may be removed, a living one
// may not.
func TestNoRemovalBelowAMajority(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	lead, others := leader(t, ctx, c)
	kill(t, others[0])
	until(t, ctx, "the dead voter to be called unhealthy", func(ctx context.Context) error {
		st, err := c.Status(ctx, lead)
		if err != nil {
			return err
		}
		for _, m := range st.Members {
			if m.ID == others[0].ID && m.Healthy {
				return errors.New("healthy")
			}
		}
		return nil
	})
	for _, n := range []*cluster.Node{others[1], lead} {
		if code, say := exitCode(t, ctx, c, "nodes", "remove", "--yes", n.ID, "--socket", socket(others[1])); code != 6 {
			t.Errorf("removing a living voter beside a dead one: status %d: %s", code, say)
		}
	}
	cl := dial(t, c)
	for _, n := range []*cluster.Node{others[1], lead} {
		if node, err := cl.Node(ctx, n.ID); err != nil || node.State != "ready" {
			t.Errorf("after the refusal: %+v, %v", node, err)
		}
	}
	if code, say := exitCode(t, ctx, c, "nodes", "remove", "--yes", others[0].ID, "--socket", socket(others[1])); code != 0 {
		t.Errorf("removing the dead voter: status %d: %s", code, say)
	}
	wait(t, ctx, cl, submit(t, ctx, cl, shell("still", "true")).ID, "succeeded")
}

func socket(n *cluster.Node) string { return n.Dir + "/holdfast.sock" }

// voters is the condition that so many members vote, healthy or not.
func voters(c *cluster.Cluster, want int) func(context.Context) error {
	return func(ctx context.Context) error {
		lead, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		st, err := c.Status(ctx, lead)
		if err != nil {
			return err
		}
		if n := len(votersOf(st)); n != want {
			return fmt.Errorf("%d voters among %v", n, st.Members)
		}
		return nil
	}
}

func votersOf(st *client.ClusterStatus) map[string]bool {
	out := map[string]bool{}
	for _, m := range st.Members {
		if m.Role != "replica" {
			out[m.ID] = true
		}
	}
	return out
}

// At most five vote; a voter that stays dead is replaced by the sixth.
func TestDeadVoterIsReplaced(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Nodes: 6})
	if err := c.WaitVoters(ctx, 5); err != nil {
		t.Fatal(err)
	}
	lead, others := leader(t, ctx, c)
	st, err := c.Status(ctx, lead)
	if err != nil {
		t.Fatal(err)
	}
	before := votersOf(st)
	if len(before) != 5 || len(st.Members) != 6 {
		t.Fatalf("members are %v", st.Members)
	}
	var dead, spare *cluster.Node
	for _, n := range others {
		if before[n.ID] {
			dead = n
		} else {
			spare = n
		}
	}
	kill(t, dead)
	until(t, ctx, "the spare node to vote for the dead one", func(ctx context.Context) error {
		st, err := c.Status(ctx, lead)
		if err != nil {
			return err
		}
		now := votersOf(st)
		if len(now) > 6 {
			t.Fatalf("%d voters", len(now))
		}
		if now[dead.ID] || !now[spare.ID] || len(now) != 5 {
			return fmt.Errorf("members are %v", st.Members)
		}
		return nil
	})
	wait(t, ctx, dial(t, c, lead), submit(t, ctx, dial(t, c, lead), shell("after", "true")).ID, "succeeded")
}
