package consensus

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/consensus/memtransport"

	"github.com/hashicorp/raft"
)

func newFailover(tune func(*FailoverConfig)) *failover {
	f := &failover{}
	if tune != nil {
		tune(&f.cfg)
	}
	f.cfg.setDefaults()
	return f
}

func TestEvidenceIsWeighed(t *testing.T) {
	voters := []string{"a", "b", "c"}
	led := func(id string, self bool) situation {
		return situation{leader: LeaderInfo{ID: id, Term: 3, Self: self}, self: "b", voters: voters}
	}
	now := time.Unix(0, 0)
	for _, c := range []struct {
		name string
		e    evidence
		s    situation
		want string
	}{
		{"the leader's port", evidence{"a", KindPortUnreachable, 0}, led("a", false), outcomeVerdict},
		{"another node's port", evidence{"c", KindPortUnreachable, 0}, led("a", false), outcomeNotLeader},
		{"no leader known", evidence{"a", KindPortUnreachable, 0}, led("", false), outcomeNotLeader},
		{"this node leads", evidence{"b", KindPortUnreachable, 0}, led("b", true), outcomeNotLeader},
		{"an empty peer", evidence{"", KindPortUnreachable, 0}, led("", false), outcomeNotLeader},
		{"gossip alone", evidence{"a", KindGossipDead, 0}, led("a", false), outcomeUnconfirmed},
		{"gossip confirmed", evidence{"a", KindGossipDead, 1}, led("a", false), outcomeVerdict},
		{"an unknown kind", evidence{"a", "rumour", 9}, led("a", false), outcomeUnknownKind},
		{"not a voter", evidence{"a", KindStatelessReset, 0}, situation{leader: LeaderInfo{ID: "a"}, self: "z", voters: voters}, outcomeNotVoter},
	} {
		f := newFailover(nil)
		if got := f.report(now, c.e, c.s); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.want == outcomeVerdict {
			if got := f.report(now, c.e, c.s); got != outcomeStanding {
				t.Errorf("%s, again: %s", c.name, got)
			}
		} else if fire, next := f.step(now, c.s); fire || !next.IsZero() {
			t.Errorf("%s: started an election", c.name)
		}
	}
}

// Two followers with the same evidence must not become candidates together.
func TestEvidenceIsRanked(t *testing.T) {
	voters := []string{"a", "b", "c", "d", "e"}
	now := time.Unix(0, 0)
	want := map[string]time.Duration{"a": 0, "b": 50 * time.Millisecond, "d": 100 * time.Millisecond, "e": 150 * time.Millisecond}
	for self, delay := range want {
		s := situation{leader: LeaderInfo{ID: "c", Term: 1}, self: self, voters: voters}
		f := newFailover(nil)
		f.report(now, evidence{"c", KindPortUnreachable, 0}, s)
		for at := time.Duration(0); ; at += 10 * time.Millisecond {
			if fire, _ := f.step(now.Add(at), s); fire {
				if at != delay {
					t.Errorf("%s fired after %v, want %v", self, at, delay)
				}
				break
			}
		}
	}
}

// A lost vote clears the leader without making another: the verdict stands, and
// the election is tried again. Without that rule the loser waits for a timer.
func TestVerdictStandsUntilALeaderStays(t *testing.T) {
	start := time.Unix(0, 0)
	s := situation{leader: LeaderInfo{ID: "a", Term: 3}, self: "b", voters: []string{"a", "b", "c"}}
	f := newFailover(nil)
	f.report(start, evidence{"a", KindPortUnreachable, 0}, s)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	if fire, _ := f.step(at(0), s); !fire {
		t.Fatal("the first rank must fire at once")
	}
	s.leader = LeaderInfo{Term: 4}
	if fire, next := f.step(at(5), s); fire || next != at(30) {
		t.Fatalf("fire %v, next %v", fire, next)
	}
	if fire, _ := f.step(at(30), s); !fire {
		t.Fatal("no second try")
	}
	s.leader = LeaderInfo{ID: "c", Term: 5} // it comes,
	if fire, next := f.step(at(40), s); fire || next != at(540) {
		t.Fatalf("fire %v, next %v", fire, next)
	}
	s.leader = LeaderInfo{Term: 6} // and goes
	if fire, _ := f.step(at(100), s); !fire {
		t.Fatal("the verdict fell with a leader that did not stay")
	}
	s.leader = LeaderInfo{ID: "c", Term: 7}
	f.step(at(110), s)
	if _, next := f.step(at(610), s); !next.IsZero() || f.suspect != "" {
		t.Fatal("the verdict stands against a leader that stayed")
	}
	// The suspect itself, in a newer term, is alive: forged evidence.
	s.leader = LeaderInfo{ID: "a", Term: 8}
	f.report(at(700), evidence{"a", KindPortUnreachable, 0}, s)
	f.step(at(700), s)
	s.leader.Term = 9
	f.step(at(710), s)
	if fire, _ := f.step(at(1100), s); fire {
		t.Fatal("fired against a suspect that was elected again")
	}
	f.step(at(1210), s)
	if f.suspect != "" {
		t.Fatal("the verdict stands against a suspect that was elected again")
	}
}

func TestVerdictEnds(t *testing.T) {
	now := time.Unix(0, 0)
	s := situation{leader: LeaderInfo{ID: "a", Term: 3}, self: "b", voters: []string{"a", "b", "c"}}
	f := newFailover(nil)
	f.report(now, evidence{"a", KindPortUnreachable, 0}, s)
	if fire, next := f.step(now.Add(1500*time.Millisecond), s); fire || !next.IsZero() {
		t.Fatal("the verdict outlived its time")
	}
	f.report(now, evidence{"a", KindPortUnreachable, 0}, s)
	s.voters = []string{"a", "c"} // demoted meanwhile
	if fire, _ := f.step(now, s); fire {
		t.Fatal("a non-voter started an election")
	}
}

// Forged evidence costs at most PerMinute elections a minute on each node.
func TestElectionsByEvidenceAreLimited(t *testing.T) {
	f := newFailover(func(c *FailoverConfig) { c.PerMinute = 5 })
	now := time.Unix(0, 0)
	fired := []time.Time{}
	for term := uint64(1); now.Before(time.Unix(300, 0)); term++ {
		// The forger names whoever leads, all the time; elections are won at once.
		s := situation{leader: LeaderInfo{ID: "a", Term: term}, self: "b", voters: []string{"a", "b", "c"}}
		f.report(now, evidence{"a", KindPortUnreachable, 0}, s)
		if fire, _ := f.step(now, s); fire {
			fired = append(fired, now)
		}
		now = now.Add(20 * time.Millisecond)
	}
	for i := range fired {
		if i >= 5 && fired[i].Sub(fired[i-5]) < time.Minute {
			t.Fatalf("6 elections in %v", fired[i].Sub(fired[i-5]))
		}
	}
	if len(fired) < 20 {
		t.Fatalf("only %d elections in 5 minutes: the limit never opens again", len(fired))
	}
}

// guards P5: with evidence the next write does not wait for a timer, which
// takes at least a heartbeat timeout.
func TestFailoverByEvidenceBeatsTheTimers(t *testing.T) {
	for _, kind := range evidenceKinds {
		t.Run(kind, func(t *testing.T) {
			simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
				c.startAll()
				c.must(testCommand{Key: "k", Value: "v"})
				dead := c.leader()
				rest := c.others(dead)
				for _, i := range rest {
					eventually(t, "all to know the leader", func() bool { return c.nodes[i].group.Leader().ID == dead.id })
				}
				_ = dead.transport.Close()
				start := time.Now()
				for _, i := range rest {
					if kind == KindGossipDead {
						c.nodes[i].group.GossipDead(dead.id, 1)
					} else {
						c.nodes[i].group.Evidence(dead.id, kind)
					}
				}
				c.must(testCommand{Key: "k", Value: "w"}, rest...)
				if took := time.Since(start); took >= 100*time.Millisecond {
					t.Errorf("took %v", took)
				}
				n := 0.0
				for _, i := range rest {
					n += testutil.ToFloat64(c.nodes[i].group.metrics.elections.WithLabelValues(causeEvidence))
				}
				if n < 1 {
					t.Error("no election is counted as caused by evidence")
				}
			})
		})
	}
}

// Without evidence the timers do it: a host that is cut off or hangs.
func TestFailoverByTimers(t *testing.T) {
	// guards P5
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		rest := c.others(l)
		c.isolate(l)
		start := time.Now()
		c.must(testCommand{Key: "k", Value: "w"}, rest...)
		if took := time.Since(start); took < 200*time.Millisecond || took > 1500*time.Millisecond {
			t.Errorf("took %v", took)
		}
		n := 0.0
		for _, i := range rest {
			n += testutil.ToFloat64(c.nodes[i].group.metrics.elections.WithLabelValues(causeTimer))
		}
		if n < 1 {
			t.Error("no election is counted as caused by a timer")
		}
		c.net.Heal()
	})
}

// A follower whose log is behind loses the vote it asks for; the one that is up
// to date must be elected at once, not in its turn nor after a timeout, and also
// if it has no evidence of its own yet.
func TestFailoverSurvivesALostVote(t *testing.T) {
	for _, witnesses := range []int{2, 1} {
		t.Run(fmt.Sprint(witnesses, " with evidence"), func(t *testing.T) { testLostVote(t, witnesses) })
	}
}

func testLostVote(t *testing.T, witnesses int) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		rest := c.others(l)
		behind := raft.ServerAddress(c.nodes[rest[0]].id) // the first in rank
		c.net.SetFate(func(m memtransport.Message) memtransport.Fate {
			if ae, ok := m.Request.(*raft.AppendEntriesRequest); ok && m.To == behind && ae.LeaderCommitIndex > 0 {
				return memtransport.Drop
			}
			return memtransport.Deliver
		})
		c.must(testCommand{Key: "k", Value: "w"})
		_ = l.transport.Close()
		c.net.SetFate(nil)
		start := time.Now()
		for _, i := range rest[:witnesses] {
			c.nodes[i].group.Evidence(l.id, KindConnectionClosed)
		}
		c.must(testCommand{Key: "k", Value: "x"}, rest...)
		if took := time.Since(start); took >= 50*time.Millisecond {
			t.Errorf("took %v, as long as a step between ranks", took)
		}
		if got := c.leader(rest...).id; got == string(behind) {
			t.Errorf("%s leads with a log that misses an entry", got)
		}
	})
}

// A log that goes further than a candidate's makes a node go at once, whatever
// its rank, but never more often than is allowed.
func TestLongerLogGoesAtOnce(t *testing.T) {
	start := time.Unix(0, 0)
	s := situation{leader: LeaderInfo{ID: "a", Term: 3}, self: "c", voters: []string{"a", "b", "c"}}
	f := newFailover(nil)
	f.report(start, evidence{"a", KindPortUnreachable, 0}, s)
	if fire, _ := f.step(start, s); fire {
		t.Fatal("the second rank fired at once")
	}
	s.leader = LeaderInfo{Term: 4} // b has asked for its vote
	f.ahead(start.Add(3*time.Millisecond), s)
	if fire, _ := f.step(start.Add(3*time.Millisecond), s); !fire {
		t.Error("waits for its turn")
	}
	f = newFailover(nil)
	for i := range 20 {
		now := start.Add(time.Duration(i) * time.Second)
		f.ahead(now, s)
		if fire, _ := f.step(now, s); fire != (i < f.cfg.PerMinute) {
			t.Fatalf("election %d: fire %v", i+1, fire)
		}
	}
	s.self = "d"
	f = newFailover(nil)
	f.ahead(start, s)
	if fire, _ := f.step(start, s); fire {
		t.Error("a node without a vote is a candidate")
	}
}
