package e2e

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/chaos/cluster"
)

// guards P1
func TestRestarts(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	acknowledged := map[string]string{}
	add := func(name string) {
		t.Helper()
		cl := dial(t, c)
		acknowledged[name] = submit(t, ctx, cl, shell(name, "echo "+name)).ID
	}
	check := func() {
		t.Helper()
		for _, n := range c.Nodes {
			checkEach(t, ctx, dial(t, c, n), acknowledged)
		}
	}

	add("first")
	for i, n := range c.Nodes {
		stop(t, ctx, n)
		add(fmt.Sprintf("without-%d", i))
		restart(t, ctx, c, n)
		if err := c.WaitVoters(ctx, 3); err != nil {
			t.Fatal(err)
		}
	}
	check()

	add("before-the-power-cut")
	kill(t, c.Nodes...)
	restart(t, ctx, c, c.Nodes...)
	check()

	// Every address changes while all are down: each node is told one other
	// node's new one, and nothing else.
	add("before-the-move")
	for _, n := range c.Nodes {
		stop(t, ctx, n)
	}
	for i, n := range c.Nodes {
		addr, err := cluster.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		n.Addr = addr
		if i > 0 {
			n.Env = []string{"HOLDFAST_PEERS=" + c.Nodes[i-1].Addr}
		}
	}
	restart(t, ctx, c, c.Nodes...)
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}
	add("after-the-move")
	check()
	until(t, ctx, "the members' list to have the new addresses", memberAddrs(c))

	// The new addresses are remembered: no hint is needed any more.
	for _, n := range c.Nodes {
		stop(t, ctx, n)
		n.Env = nil
	}
	restart(t, ctx, c, c.Nodes...)
	check()
	for _, n := range c.Nodes {
		if log := n.Log(); strings.Contains(log, "starting without remembered addresses") {
			t.Error(log)
		}
	}
}
