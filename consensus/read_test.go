package consensus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/consensus/memtransport"
)

func servers(voters, nonvoters int) []raft.Server {
	var out []raft.Server
	for i := range voters + nonvoters {
		s := raft.Server{ID: raft.ServerID(nodeID(i)), Address: raft.ServerAddress(nodeID(i))}
		if i >= voters {
			s.Suffrage = raft.Nonvoter
		}
		out = append(out, s)
	}
	return out
}

// guards P4
func TestConfirmationCountsOnlyVotersAskedAfterTheStart(t *testing.T) {
	c := newContacts(time.Now)
	three := servers(3, 2)
	before, at := c.mark()
	mark, _ := c.mark()
	after, _ := c.mark()
	confirmed := func() bool { return c.confirmed("n1", three, 7, mark) }
	c.answered("n4", 7, after, at, 0)
	c.answered("n5", 7, after, at, 0)
	if confirmed() {
		t.Error("non-voters confirmed a leader")
	}
	c.answered("n2", 7, before, at, 0)
	if confirmed() {
		t.Error("an answer to a request from before the read confirmed the leader")
	}
	c.answered("n2", 6, after, at, 0)
	if confirmed() {
		t.Error("an answer of another term confirmed the leader")
	}
	c.answered("n2", 7, after, at, 0)
	if !confirmed() {
		t.Error("a majority did not confirm the leader")
	}
	if !c.confirmed("n1", servers(1, 2), 7, 99) {
		t.Error("a lone voter must confirm itself")
	}
	if c.confirmed("n4", servers(1, 3), 7, 99) {
		t.Error("a non-voter confirmed itself")
	}
}

func TestFollowerAgeCountsFromTheLastCommitIndexApplied(t *testing.T) {
	now := time.Unix(100, 0)
	c := newContacts(func() time.Time { return now })
	if !c.fresh(10).IsZero() {
		t.Fatal("fresh before any contact")
	}
	c.heard(1, 10, 10)
	if !c.fresh(10).IsZero() {
		t.Error("the first message of a term tells when it was sent: never before the one before it")
	}
	first := now
	tick := func() time.Time { now = now.Add(time.Second); return now }
	tick()
	c.heard(1, 10, 10)
	if got := c.fresh(10); got != first {
		t.Errorf("fresh at %v, want %v: a message may have been on its way since the one before came", got, first)
	}
	second := now
	pending := tick()
	c.heard(1, 12, 10) // behind: as of the second
	tick()
	c.heard(1, 13, 11)
	if got := c.fresh(11); got != first {
		t.Errorf("behind: fresh at %v, want %v", got, first)
	}
	if got := c.fresh(12); got != second {
		t.Errorf("caught up with the first: fresh at %v, want %v", got, second)
	}
	last := now
	tick()
	c.heard(1, 13, 13)
	if got := c.fresh(13); got != last {
		t.Errorf("caught up: fresh at %v, want %v, after %v", got, last, pending)
	}
	tick()
	c.heard(2, 14, 14) // another leader may have sent it long ago
	if got := c.fresh(14); got != last {
		t.Errorf("the first message of the next term: fresh at %v, want %v", got, last)
	}
}

// guards P4: a leader that is cut off from the voters must not answer a
// linearizable read, also while its lease lasts, and also if a replica still
// follows it. The library's VerifyLeader counts the replica and would answer.
func TestCutOffLeaderAnswersNoRead(t *testing.T) {
	simulate(t, 4, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "old"})
		l := c.leader()
		replica := c.nodes[3]
		var rest []*testNode
		for _, nd := range c.nodes[:3] {
			if nd != l {
				rest = append(rest, nd)
			}
		}
		c.net.Partition(addrs(l, replica), addrs(rest...))
		if err := l.group.raft.VerifyLeader().Error(); err != nil {
			t.Errorf("the library counts only voters now (%v): the comment in contacts is out of date", err)
		}
		answered := make(chan error, 1)
		go func() {
			_, err := l.group.ReadIndex(context.WithoutCancel(t.Context()))
			answered <- err
		}()
		rest[0].group.Evidence(l.id, KindPortUnreachable) // a new leader long before the lease ends
		rest[1].group.Evidence(l.id, KindPortUnreachable)
		c.must(testCommand{Key: "k", Value: "new"}, c.indexOf(rest[0]), c.indexOf(rest[1]))
		if err := <-answered; err == nil {
			t.Fatal("a leader without a majority answered a read")
		}
		c.net.Heal()
	})
}

// A read may only share a round that starts after it arrived.
func TestReadsShareRounds(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		g := c.leader().group
		before := testutil.ToFloat64(g.metrics.readRounds)
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if _, err := g.ReadIndex(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if rounds := testutil.ToFloat64(g.metrics.readRounds) - before; rounds < 1 || rounds > 3 {
			t.Errorf("200 reads at one moment took %v rounds", rounds)
		}
		// One that arrives in the middle of a round must not join it.
		entered := make(chan struct{}, 10)
		c.net.SetFate(func(m memtransport.Message) memtransport.Fate {
			if ae, ok := m.Request.(*raft.AppendEntriesRequest); ok && ae.LeaderCommitIndex == 0 {
				select {
				case entered <- struct{}{}:
				default:
				}
			}
			return memtransport.Deliver
		})
		first := make(chan uint64, 1)
		go func() {
			i, _ := g.ReadIndex(t.Context())
			first <- i
		}()
		<-entered
		g.reader.mu.Lock()
		running := g.reader.next
		g.reader.mu.Unlock()
		if running != nil {
			t.Fatal("the running round can still be joined")
		}
		<-first
	})
}

func TestReadGivesUpWithItsContext(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		l := c.leader()
		c.isolate(l)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.group.ReadIndex(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		c.net.Heal()
	})
}

func TestAge(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		f := c.nodes[c.others(l)[0]]
		for _, nd := range []*testNode{l, f} {
			eventually(t, "a small age", func() bool {
				age, ok := nd.group.Age()
				return ok && age < 50*time.Millisecond
			})
		}
		c.net.Partition(addrs(c.nodes[0]), addrs(c.nodes[1]), addrs(c.nodes[2]))
		elapse(5 * time.Second)
		for _, nd := range []*testNode{l, f} {
			if age, ok := nd.group.Age(); ok && age < 4900*time.Millisecond {
				t.Errorf("%s, alone for 5 s, claims an age of %v", nd.id, age)
			}
		}
		c.net.Heal()
	})
}

// A node that led and lost its quorum knows how old its state is.
func TestAgeAfterTheOffice(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		elapse(time.Second) // leads long after it last heard a leader, if ever
		cut := time.Now()
		c.isolate(l)
		eventually(t, "it leaves its office", func() bool { return l.group.leadership.office.Load() == nil })
		for _, alone := range []time.Duration{0, 10 * time.Second} {
			elapse(alone)
			eventually(t, "an age", func() bool { _, ok := l.group.Age(); return ok })
			since := time.Since(cut)
			if age, _ := l.group.Age(); age < since || age > since+500*time.Millisecond {
				t.Errorf("cut off for %v, it claims an age of %v", since, age)
			}
		}
		c.net.Heal()
		eventually(t, "it hears the next leader", func() bool { age, ok := l.group.Age(); return ok && age < 500*time.Millisecond })
	})
}

// Heartbeats go on while replication is stuck; they must not make a follower
// look fresh.
func TestAgeGrowsWhenOnlyHeartbeatsArrive(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		f := c.nodes[c.others(l)[0]]
		eventually(t, "an age", func() bool { _, ok := f.group.Age(); return ok })
		c.net.SetFate(func(m memtransport.Message) memtransport.Fate {
			ae, ok := m.Request.(*raft.AppendEntriesRequest)
			if ok && m.To == raft.ServerAddress(f.id) && ae.LeaderCommitIndex > 0 {
				return memtransport.Drop
			}
			return memtransport.Deliver
		})
		elapse(2 * time.Second)
		if f.group.raft.State() != raft.Follower || c.leader() != l {
			t.Fatal("the heartbeats did not keep the follower")
		}
		if age, ok := f.group.Age(); !ok || age < 1900*time.Millisecond {
			t.Errorf("age %v, %v", age, ok)
		}
	})
}
