package consensus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestProposeAndReadOnThreeNodes(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		r, index := c.must(testCommand{Key: "k", Value: "v"})
		if r.Detail != "v" || index == 0 {
			t.Fatalf("result %+v at %d", r, index)
		}
		read, err := c.leader().group.ReadIndex(within(t, time.Second))
		if err != nil || read < index {
			t.Fatalf("read index %d, %v; the write was at %d", read, err, index)
		}
		for _, nd := range c.nodes {
			if err := nd.group.WaitApplied(within(t, time.Second), read); err != nil {
				t.Fatalf("%s: %v", nd.id, err)
			}
			if got := nd.state.get("k"); got != "v" {
				t.Errorf("%s has %q", nd.id, got)
			}
		}
	})
}

func TestFollowerRefusesWithTheLeadersAddress(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		l := c.leader()
		f := c.nodes[c.others(l)[0]]
		eventually(t, "the follower to know", func() bool { return f.group.Leader().ID == l.id })
		_, _, err := f.group.Propose(within(t, time.Second), testCommand{}.encode())
		var nl *NotLeaderError
		if !errors.As(err, &nl) || nl.ID != l.id || nl.Addr != l.id {
			t.Fatalf("got %v", err)
		}
		if _, err := f.group.ReadIndex(within(t, time.Second)); !errors.As(err, &nl) {
			t.Fatalf("read: %v", err)
		}
	})
}

func TestRestartFromStores(t *testing.T) {
	// guards P1
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		for i := range 20 {
			c.must(testCommand{Key: fmt.Sprint(i), Value: "x"})
		}
		if err := c.leader().group.Snapshot(within(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		_, last := c.must(testCommand{Key: "last", Value: "y"})
		for i := range c.nodes {
			c.stop(i)
		}
		c.startAll()
		c.leader()
		for _, nd := range c.nodes {
			if err := nd.group.WaitApplied(within(t, 5*time.Second), last); err != nil {
				t.Fatal(err)
			}
			if nd.state.get("7") != "x" || nd.state.get("last") != "y" {
				t.Errorf("%s lost something", nd.id)
			}
		}
	})
}

func TestLeadershipContextEndsWithTheOffice(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		type term struct {
			node string
			term uint64
		}
		began, ended := make(chan term, 10), make(chan term, 10)
		c.startAll()
		for _, nd := range c.nodes {
			nd.group.OnLeadership(func(ctx context.Context, n uint64) {
				began <- term{nd.id, n}
				<-ctx.Done()
				ended <- term{nd.id, n}
			})
		}
		first := <-began
		l := c.leader()
		if first.node != l.id {
			t.Fatalf("duty on %s, leader is %s", first.node, l.id)
		}
		c.isolate(l)
		second := <-began
		if second.term <= first.term || second.node == first.node {
			t.Fatalf("%+v after %+v", second, first)
		}
		if e := <-ended; e != first {
			t.Fatalf("%+v ended, want %+v", e, first)
		}
		c.net.Heal()
	})
}

// Five voters lose two, one of them the leader, and go on; with a third one
// gone nothing is acknowledged.
// guards P1
func TestFiveNodesLoseTwo(t *testing.T) {
	simulate(t, 5, 5, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "a", Value: "1"})
		first := c.leader()
		other := c.others(first)[0]
		c.stop(c.indexOf(first))
		c.stop(other)
		c.must(testCommand{Key: "b", Value: "2"})
		l := c.leader()
		for _, i := range c.others(l) {
			if nd := c.nodes[i]; nd.group != nil {
				c.stop(i)
				break
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, _, err := l.group.Propose(ctx, testCommand{Key: "c", Value: "3"}.encode()); err == nil {
			t.Error("two of five acknowledged a write")
		}
		c.start(other)
		c.must(testCommand{Key: "d", Value: "4"})
		eventually(t, "the node that came back to catch up", func() bool {
			s := c.nodes[other].state
			return s.get("a") == "1" && s.get("b") == "2" && s.get("d") == "4"
		})
	})
}

// The servers take their snapshots one after the other, and none takes it late
// by more than half of the threshold.
func TestSnapshotTurns(t *testing.T) {
	servers := []raft.Server{{ID: "b"}, {ID: "a"}, {ID: "c"}}
	for self, want := range map[string]int64{"a": 600, "b": 700, "c": 800} {
		if got := snapshotTurn(600, self, servers); got != want {
			t.Errorf("%s takes its snapshot at %d, want %d", self, got, want)
		}
	}
	if got := snapshotTurn(600, "a", nil); got != 600 {
		t.Errorf("without others at %d, want 600", got)
	}
}
