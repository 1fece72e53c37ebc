package consensus

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestPlanVoters(t *testing.T) {
	now := time.Unix(10_000, 0)
	stable := memberState{healthy: true, stableSince: now.Add(-time.Minute)}
	fresh := memberState{healthy: true, stableSince: now.Add(-time.Second)}
	silent := func(d time.Duration) memberState { return memberState{silentSince: now.Add(-d)} }
	dead, late := silent(time.Hour), silent(5*time.Second)
	for _, c := range []struct {
		name      string
		voters    []memberState // n1 is the leader
		nonvoters []memberState
		want      planStep
	}{
		{"one node", []memberState{stable}, nil, planStep{}},
		{"two nodes stay at one voter", []memberState{stable}, []memberState{stable}, planStep{}},
		{"three nodes", []memberState{stable}, []memberState{stable, stable}, planStep{planPromote, "n2"}},
		{"three nodes, one too young", []memberState{stable}, []memberState{stable, fresh}, planStep{}},
		{"the second of a pair", []memberState{stable, stable}, []memberState{stable}, planStep{planPromote, "n3"}},
		{"four nodes stay at three voters", []memberState{stable, stable, stable}, []memberState{stable}, planStep{}},
		{"five voters are enough", []memberState{stable, stable, stable, stable, stable}, []memberState{stable, stable}, planStep{}},
		{"a late voter is not dead", []memberState{stable, stable, late}, []memberState{stable}, planStep{}},
		{"a dead voter without a replacement", []memberState{stable, stable, dead}, []memberState{fresh}, planStep{}},
		{"a dead voter: first the replacement", []memberState{stable, stable, dead}, []memberState{stable}, planStep{planPromote, "n4"}},
		{"a dead voter: then its vote", []memberState{stable, stable, dead, stable}, nil, planStep{planDemote, "n3"}},
		{"no majority is healthy", []memberState{stable, dead, dead}, []memberState{stable}, planStep{}},
		{"a dead non-voter is left alone", []memberState{stable, stable, stable}, []memberState{dead}, planStep{}},
	} {
		var cfg AutopilotConfig
		cfg.setDefaults()
		states := map[string]memberState{}
		list := servers(len(c.voters), len(c.nonvoters))
		for i, m := range append(slices.Clone(c.voters), c.nonvoters...) {
			states[nodeID(i)] = m
		}
		if got := planVoters(cfg, now, "n1", list, states); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPlanLeavesOutTheIneligible(t *testing.T) {
	now := time.Unix(10_000, 0)
	var cfg AutopilotConfig
	cfg.setDefaults()
	cfg.Eligible = func(id string) bool { return id != "n2" }
	m := memberState{healthy: true, stableSince: now.Add(-time.Minute)}
	states := map[string]memberState{"n1": m, "n2": m, "n3": m, "n4": m}
	if got := planVoters(cfg, now, "n1", servers(1, 3), states); got != (planStep{planPromote, "n3"}) {
		t.Errorf("%+v", got)
	}
}

// Whatever the cluster looks like: a change never leaves fewer healthy voters
// than a majority, never demotes the leader, and the plan comes to rest.
func TestPlanIsSafeAndComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(10_000, 0)
		var cfg AutopilotConfig
		cfg.setDefaults()
		cfg.MaxVoters = rapid.IntRange(1, 7).Draw(t, "max")
		list := servers(rapid.IntRange(1, 7).Draw(t, "voters"), rapid.IntRange(0, 7).Draw(t, "nonvoters"))
		states := map[string]memberState{}
		for i := range list {
			m := memberState{healthy: true, stableSince: now.Add(-time.Minute)}
			if i > 0 && rapid.Bool().Draw(t, "dead") {
				m = memberState{silentSince: now.Add(-time.Hour)}
			}
			states[nodeID(i)] = m
		}
		healthy := func() (h, v int) {
			for _, s := range list {
				if s.Suffrage == raft.Voter {
					v++
					if states[string(s.ID)].healthy {
						h++
					}
				}
			}
			return h, v
		}
		for range 30 {
			step := planVoters(cfg, now, "n1", list, states)
			if step.action == planNothing {
				return
			}
			for i := range list {
				if string(list[i].ID) == step.id {
					list[i].Suffrage = raft.Voter
					if step.action == planDemote {
						list[i].Suffrage = raft.Nonvoter
					}
				}
			}
			if step.action == planDemote && step.id == "n1" {
				t.Fatal("demoted the leader")
			}
			if h, v := healthy(); h <= v/2 {
				t.Fatalf("%+v leaves %d of %d voters healthy", step, h, v)
			}
		}
		t.Fatal("does not come to rest")
	})
}

func TestStabilityStartsAnewWithEachTerm(t *testing.T) {
	var cfg AutopilotConfig
	cfg.setDefaults()
	var st stability
	now := time.Unix(1000, 0)
	list := servers(2, 0)
	see := func(term, index uint64) memberState {
		return st.update(cfg, now, term, 5000, list, map[string]Health{"n2": {LastContact: now, LastIndex: index}})["n2"]
	}
	first := see(1, 5000)
	now = now.Add(time.Minute)
	if m := see(1, 5000); !m.healthy || m.stableSince != first.stableSince {
		t.Errorf("%+v", m)
	}
	if m := see(1, 10); m.healthy || !m.stableSince.IsZero() {
		t.Errorf("a server far behind: %+v", m)
	}
	if m := see(1, 5000); m.stableSince != now {
		t.Errorf("after a lapse: %+v", m)
	}
	now = now.Add(time.Minute)
	if m := see(2, 5000); m.stableSince != now {
		t.Errorf("a new leader trusts the old one's observations: %+v", m)
	}
	if m := st.update(cfg, now.Add(time.Minute), 2, 5000, list, nil)["n2"]; m.silentSince != now {
		t.Errorf("never heard of in this term: %+v", m)
	}
}

// A cluster grows from one node: servers join without a vote and get it once
// they are stable; a dead voter is replaced and stays as a replica.
func TestAutopilotGrowsAndHeals(t *testing.T) {
	tune := func(c *Config) { c.Autopilot.Disabled = false }
	simulate(t, 4, 1, tune, func(t *testing.T, c *cluster) {
		for _, nd := range c.nodes[1:] { // those join with empty disks
			store := raft.NewInmemStore()
			nd.logs, nd.stable = store, store
		}
		// The first one's configuration names only itself.
		store := raft.NewInmemStore()
		c.nodes[0].logs, c.nodes[0].stable = store, store
		c.tune = func(cfg *Config) {
			tune(cfg)
			cfg.Bootstrap = cfg.ID == "n1"
		}
		c.startAll()
		l := c.leader()
		for _, nd := range c.nodes[1:] {
			if err := l.group.AddNonvoter(within(t, 5*time.Second), nd.id, nd.id); err != nil {
				t.Fatal(err)
			}
		}
		voters := func() []string {
			var out []string
			for _, m := range l.group.Members() {
				if m.Voter {
					out = append(out, m.ID)
				}
			}
			return out
		}
		elapse(8 * time.Second)
		if got := voters(); !slices.Equal(got, []string{"n1"}) {
			t.Fatalf("%v vote before they were stable", got)
		}
		eventually(t, "three voters", func() bool { return len(voters()) == 3 })
		elapse(20 * time.Second)
		if got := voters(); len(got) != 3 {
			t.Fatalf("%v vote", got)
		}
		victim := slices.IndexFunc(c.nodes, func(nd *testNode) bool { return nd.id == voters()[1] })
		c.stop(victim)
		c.must(testCommand{Key: "k", Value: "v"})
		elapse(20 * time.Second)
		if !slices.Contains(voters(), nodeID(victim)) {
			t.Fatal("a voter that is silent for 20 s was replaced")
		}
		eventually(t, "the dead voter's replacement", func() bool {
			v := voters()
			return len(v) == 3 && !slices.Contains(v, nodeID(victim))
		})
		if len(l.group.Members()) != 4 {
			t.Error("the dead voter is gone from the configuration")
		}
		c.must(testCommand{Key: "k", Value: "w"})
	})
}

func TestMembershipByHand(t *testing.T) {
	simulate(t, 4, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		g, ctx := l.group, within(t, time.Minute)
		rest := c.others(l)
		rest = slices.DeleteFunc(rest, func(i int) bool { return i == 3 })

		if err := g.RemoveServer(ctx, "nobody"); err != nil {
			t.Errorf("removing nobody is done: %v", err)
		}
		if err := g.RemoveServer(ctx, l.id); !errors.Is(err, ErrUnsafe) {
			t.Errorf("removing the leader: %v", err)
		}
		if err := g.AddNonvoter(ctx, c.nodes[rest[0]].id, c.nodes[rest[0]].id); err != nil {
			t.Fatal(err)
		}
		if m := g.Members()[rest[0]]; m.Addr != m.ID || !m.Voter {
			t.Errorf("a voter that joins again lost its vote: %+v", m)
		}
		if err := g.RemoveServer(ctx, "n4"); err != nil {
			t.Fatal(err)
		}
		if n := len(g.Members()); n != 3 {
			t.Errorf("%d members", n)
		}
		// With one voter dead, the other two are all that is left.
		eventually(t, "healthy members", func() bool {
			return !slices.ContainsFunc(g.Members(), func(m Member) bool { return !m.Healthy })
		})
		c.stop(rest[0])
		elapse(5 * time.Second)
		if err := g.RemoveServer(ctx, c.nodes[rest[1]].id); !errors.Is(err, ErrUnsafe) {
			t.Errorf("removing a healthy voter beside a dead one: %v", err)
		}
		if err := g.RemoveServer(ctx, c.nodes[rest[0]].id); err != nil {
			t.Errorf("removing the dead voter: %v", err)
		}
		c.must(testCommand{Key: "k", Value: "w"})
		var nl *NotLeaderError
		if err := c.nodes[rest[1]].group.AddNonvoter(ctx, "x", "x"); !errors.As(err, &nl) {
			t.Errorf("by a follower: %v", err)
		}
	})
}

// A replica has no vote, also if something claims that the leader is dead.
func TestReplicaStartsNoElection(t *testing.T) {
	simulate(t, 4, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		term := l.group.raft.CurrentTerm()
		replica := c.nodes[3]
		eventually(t, "the replica to know the leader", func() bool { return replica.group.Leader().ID == l.id })
		replica.group.Evidence(l.id, KindPortUnreachable)
		elapse(3 * time.Second)
		if c.leader() != l || l.group.raft.CurrentTerm() != term {
			t.Error("a replica deposed the leader")
		}
	})
}
