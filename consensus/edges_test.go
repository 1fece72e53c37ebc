package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/consensus/memtransport"
	"holdfast/fsm"
)

// noPreVote hides the method, as a wrapper easily does.
type noPreVote struct{ raft.Transport }

func TestTransportWithoutPreVoteIsRefused(t *testing.T) {
	c := newCluster(t, 1, 1, nil)
	s := newTestState()
	_, err := Open(Config{ID: "n1", Transport: noPreVote{c.net.Join("n1")}, Logs: c.nodes[0].logs, Stable: c.nodes[0].stable,
		Snapshots: c.nodes[0].snaps, State: Adapt(s), EncodeBatch: encodeTestBatch})
	if !errors.Is(err, ErrNoPreVote) {
		t.Fatalf("got %v", err)
	}
}

func TestOpenNeedsItsParts(t *testing.T) {
	for _, cfg := range []Config{{}, {ID: "n1"}, {ID: "n1", Transport: noPreVote{}, Logs: raft.NewInmemStore(), Stable: raft.NewInmemStore(), Snapshots: &memSnapshots{}}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("%+v was opened", cfg)
		}
	}
}

// A node that comes back from a partition must not depose a healthy leader.
// Fails with PreVoteDisabled.
func TestReturningNodeDoesNotDisturb(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		term := l.group.raft.CurrentTerm()
		c.isolate(c.nodes[c.others(l)[0]])
		elapse(5 * time.Second)
		c.net.Heal()
		elapse(2 * time.Second)
		if got := c.leader(); got != l || got.group.raft.CurrentTerm() != term {
			t.Fatalf("leader %s of term %d, was %s of term %d", got.id, got.group.raft.CurrentTerm(), l.id, term)
		}
	})
}

// wedgedPipeline never answers, as the library's can after a rejection.
type wedgedPipeline struct{ *memtransport.Transport }

func (wedgedPipeline) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return deafPipeline{}, nil
}

type deafPipeline struct{}

func (deafPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	return nil, nil
}
func (deafPipeline) Consumer() <-chan raft.AppendFuture { return nil }
func (deafPipeline) Close() error                       { return nil }

// Replication must not go through a pipeline. Fails when the link hands on the
// transport's pipeline: entries are sent into it and never committed.
func TestPipelinesAreNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, nil)
		c.wrap = func(tr raft.Transport) raft.Transport { return wedgedPipeline{tr.(*memtransport.Transport)} }
		defer c.stopAll()
		c.startAll()
		for i := range 5 {
			c.must(testCommand{Key: fmt.Sprint(i), Value: "v"})
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		eventually(t, "contact with the followers", func() bool { _, ok := l.group.successor(l.group.raft.CurrentTerm()); return ok })
		start := time.Now()
		if err := l.group.TransferLeadership(within(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		if now := c.leader(); now == l {
			t.Fatal("still the leader")
		}
		if took := time.Since(start); took > 150*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if n := testutil.ToFloat64(c.leader().group.metrics.elections.WithLabelValues(causeTransfer)); n != 1 {
			t.Errorf("%v elections are counted as caused by a transfer", n)
		}
		var nl *NotLeaderError
		if err := l.group.TransferLeadership(within(t, time.Second)); !errors.As(err, &nl) {
			t.Errorf("by a follower: %v", err)
		}
		if err := l.group.StepDown(within(t, time.Second), "test"); err != nil {
			t.Errorf("a follower has nothing to step down from: %v", err)
		}
	})
}

// A TimeoutNow that is never answered must not leave a leader that refuses
// every entry. Fails without the bound in link.TimeoutNow.
func TestTransferThatIsSwallowed(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		eventually(t, "contact with the followers", func() bool { _, ok := l.group.successor(l.group.raft.CurrentTerm()); return ok })
		c.net.SetFate(func(m memtransport.Message) memtransport.Fate {
			if _, ok := m.Request.(*raft.TimeoutNowRequest); ok {
				return memtransport.Swallow
			}
			return memtransport.Deliver
		})
		if err := l.group.TransferLeadership(within(t, 10*time.Second)); err == nil {
			t.Fatal("a transfer that nobody heard of succeeded")
		}
		start := time.Now()
		if _, _, err := l.group.Propose(within(t, 5*time.Second), testCommand{Key: "k"}.encode()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("proposals were held up for %v", took)
		}
	})
}

func TestTransferWithNobodyThere(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		l := c.leader()
		c.isolate(l)
		elapse(20 * time.Millisecond)
		if err := l.group.TransferLeadership(within(t, 5*time.Second)); err == nil && l.group.raft.State() == raft.Leader {
			t.Error("transferred to nobody")
		}
		c.net.Heal()
	})
}

// stuckLogs hang in writes once told to, like a disk.
type stuckLogs struct {
	raft.LogStore
	mu    sync.Mutex
	stuck chan struct{} // nil: works
}

func (s *stuckLogs) StoreLogs(l []*raft.Log) error {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return s.LogStore.StoreLogs(l)
}

func (s *stuckLogs) hang() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = make(chan struct{})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.stuck)
		s.stuck = nil
	}
}

// guards P12: the heartbeats of a leader whose disk hangs keep it in office;
// Abandon must end that. Fails when it does not cut the link.
func TestAbandonALeaderWhoseDiskHangs(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		disks := map[string]*stuckLogs{}
		for _, nd := range c.nodes {
			d := &stuckLogs{LogStore: nd.logs}
			disks[nd.id], nd.logs = d, d
		}
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		rest := c.others(l)
		release := disks[l.id].hang()
		outcome := make(chan error, 1)
		go func() {
			_, _, err := l.group.Propose(context.WithoutCancel(t.Context()), testCommand{Key: "k", Value: "stuck"}.encode())
			outcome <- err
		}()
		elapse(5 * time.Second)
		for _, i := range rest {
			if c.nodes[i].group.leadership.office.Load() != nil {
				t.Fatal("a stuck disk alone already costs the office: Abandon is not needed any more")
			}
		}
		reason := errors.New("disk stalled")
		start := time.Now()
		l.group.Abandon(reason)
		if err := <-outcome; !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("the stuck proposal got %v", err)
		}
		if err := <-l.fatal; err != reason {
			t.Errorf("OnFatal got %v", err)
		}
		c.must(testCommand{Key: "k", Value: "w"}, rest...)
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("the next write took %v", took)
		}
		if _, _, err := l.group.Propose(within(t, time.Second), testCommand{}.encode()); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		release()
	})
}

func TestStepDownWithAStuckDiskAbandons(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		disks := map[string]*stuckLogs{}
		for _, nd := range c.nodes {
			d := &stuckLogs{LogStore: nd.logs}
			disks[nd.id], nd.logs = d, d
		}
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		eventually(t, "contact with the followers", func() bool { _, ok := l.group.successor(l.group.raft.CurrentTerm()); return ok })
		release := disks[l.id].hang()
		l.group.ProposeAsync([][]byte{testCommand{}.encode()}, func([]fsm.Result, uint64, error) {})
		elapse(10 * time.Millisecond)
		l.group.raft.Barrier(0) // the second write waits for the first, in raft's main loop
		elapse(10 * time.Millisecond)
		if err := l.group.StepDown(within(t, 300*time.Millisecond), "disk stalled"); err == nil {
			t.Error("stepped down through a stuck main loop")
		}
		<-l.fatal
		c.must(testCommand{Key: "k", Value: "w"}, c.others(l)...)
		release()
	})
}

// guards P9: an entry that the state machine refuses stops the node, and is
// not skipped.
func TestPoisonStopsTheNode(t *testing.T) {
	simulate(t, 1, 1, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		_, index := c.must(testCommand{Key: "k", Value: "v"})
		nd := c.nodes[0]
		_, _, err := nd.group.Propose(within(t, time.Second), testCommand{Poison: true}.encode())
		if !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrStopped) {
			t.Errorf("got %v", err)
		}
		var ae *ApplyError
		if err := <-nd.fatal; !errors.As(err, &ae) || ae.Index <= index {
			t.Errorf("OnFatal got %v", err)
		}
		if got := nd.group.AppliedIndex(); got != index {
			t.Errorf("applied %d, the last good entry is %d", got, index)
		}
		if err := nd.group.WaitApplied(within(t, time.Second), index+1); !errors.As(err, &ae) {
			t.Errorf("waiting for the poisoned entry: %v", err)
		}
		if err := nd.group.Snapshot(within(t, time.Second)); err == nil {
			t.Error("a snapshot of a failed state")
		}
	})
}

func TestSnapshotHeaderIsGolden(t *testing.T) {
	// guards P11
	for magic, want := range map[string][]byte{
		magicPlain:      {'H', 'F', 'S', '1', 0, 0, 0, 0, 0, 0, 0x12, 0x34},
		magicCompressed: {'H', 'F', 'Z', '1', 0, 0, 0, 0, 0, 0, 0x12, 0x34},
	} {
		if got := snapshotHeader(magic, 0x1234); !bytes.Equal(got, want) {
			t.Errorf("% x", got)
		}
		if m, i, err := readSnapshotHeader(bytes.NewReader(want)); err != nil || i != 0x1234 || m != magic {
			t.Errorf("%s, %d, %v", m, i, err)
		}
	}
	for _, bad := range []string{"", "HFS1", "HFS2aaaaaaaa"} {
		if _, _, err := readSnapshotHeader(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSnapshotsByBytes(t *testing.T) {
	tune := func(c *Config) { c.Snapshot = SnapshotPolicy{Bytes: 10_000, Pause: time.Second} }
	simulate(t, 1, 1, tune, func(t *testing.T, c *cluster) {
		c.startAll()
		nd := c.nodes[0]
		for range 5 {
			c.must(testCommand{Key: "k", Value: strings.Repeat("x", 1000)})
		}
		elapse(5 * time.Second)
		if l, _ := nd.snaps.List(); len(l) != 0 {
			t.Fatal("a snapshot before there were 10,000 bytes")
		}
		for range 6 {
			c.must(testCommand{Key: "k", Value: strings.Repeat("x", 1000)})
		}
		eventually(t, "a snapshot", func() bool { l, _ := nd.snaps.List(); return len(l) == 1 })
		elapse(5 * time.Second)
		if l, _ := nd.snaps.List(); len(l) != 1 {
			t.Fatalf("%d snapshots", len(l))
		}
	})
}

// What is replayed after a start asks for a snapshot, but not at once.
func TestNoSnapshotRightAfterAStart(t *testing.T) {
	tune := func(c *Config) { c.Snapshot = SnapshotPolicy{Bytes: 10_000, Pause: time.Minute} }
	simulate(t, 1, 1, tune, func(t *testing.T, c *cluster) {
		c.startAll()
		for range 11 {
			c.must(testCommand{Key: "k", Value: strings.Repeat("x", 1000)})
		}
		c.stop(0)
		c.start(0)
		nd := c.nodes[0]
		elapse(50 * time.Second)
		if l, _ := nd.snaps.List(); len(l) != 0 {
			t.Fatal("a snapshot right after the start")
		}
		elapse(20 * time.Second)
		if l, _ := nd.snaps.List(); len(l) != 1 {
			t.Fatalf("%d snapshots", len(l))
		}
	})
}

// A follower that is far behind gets a snapshot, and knows what it has applied
// although the snapshot carries no entries.
func TestFollowerIsBroughtUpBySnapshot(t *testing.T) {
	tune := func(c *Config) { c.Snapshot.TrailingLogs = 1 }
	simulate(t, 3, 3, tune, func(t *testing.T, c *cluster) {
		c.startAll()
		l := c.leader()
		behind := c.others(l)[0]
		c.stop(behind)
		var last uint64
		for i := range 20 {
			_, last = c.must(testCommand{Key: fmt.Sprint(i), Value: "v"})
		}
		if err := c.leader().group.Snapshot(within(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		nd := c.start(behind)
		restored := make(chan uint64, 10)
		nd.group.OnRestored(func(i uint64) { restored <- i })
		if err := nd.group.WaitApplied(within(t, 10*time.Second), last); err != nil {
			t.Fatal(err)
		}
		if i := <-restored; i < last {
			t.Errorf("restored at %d, want at least %d", i, last)
		}
		if nd.state.get("19") != "v" {
			t.Error("the state is not the snapshot's")
		}
		if testutil.ToFloat64(nd.group.metrics.installs) != 1 {
			t.Error("the install is not counted")
		}
	})
}

// monotonic says what the real store says.
type monotonic struct{ raft.LogStore }

func (monotonic) IsMonotonic() bool { return true }

// A follower with a conflicting tail past the snapshot's index gets the same
// snapshot for ever. Without the count this test never ends; without dropTail
// the node that restarts over a store that is not monotonic loops again.
func TestInstallLoopIsBroken(t *testing.T) {
	for _, mono := range []bool{false, true} {
		t.Run(fmt.Sprintf("monotonic %v", mono), func(t *testing.T) {
			tune := func(c *Config) { c.Snapshot.TrailingLogs = 1 }
			simulate(t, 3, 3, tune, func(t *testing.T, c *cluster) {
				c.start(0)
				c.start(1)
				for i := range 20 {
					c.must(testCommand{Key: fmt.Sprint(i), Value: "v"})
				}
				if err := c.leader().group.Snapshot(within(t, 5*time.Second)); err != nil {
					t.Fatal(err)
				}
				nd := c.nodes[2]
				var tail []*raft.Log // of a leader of term 1 that committed nothing of it
				for i := uint64(2); i < 200; i++ {
					tail = append(tail, &raft.Log{Index: i, Term: 1, Type: raft.LogNoop})
				}
				if err := nd.logs.StoreLogs(tail); err != nil {
					t.Fatal(err)
				}
				if mono {
					nd.logs = monotonic{nd.logs}
				}
				c.start(2)
				if err := <-nd.fatal; !errors.Is(err, ErrTailDropped) {
					t.Fatalf("OnFatal got %v", err)
				}
				if n := testutil.ToFloat64(nd.group.metrics.installRepeats); n < 1 || n > maxInstalls+1 {
					t.Errorf("%v repeats", n)
				}
				c.stop(2)
				c.start(2)
				_, last := c.must(testCommand{Key: "after", Value: "v"}, 0, 1)
				// The leader's pauses between tries have grown to 10 s and more.
				if err := nd.group.WaitApplied(within(t, time.Minute), last); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestDropTailKeepsWhatMayBeCommitted(t *testing.T) {
	for _, c := range []struct {
		name        string
		index, term uint64 // of the snapshot; the log is 5 to 20, of term 2
		dropped     bool
		err         error
	}{
		{"conflict at the index", 10, 3, true, nil},
		{"the entry is the snapshot's", 10, 2, false, ErrTailUnproven},
		{"older entries after it", 3, 3, true, nil},
		{"newer entries after it", 3, 1, false, ErrTailUnproven},
		{"nothing after it", 30, 9, false, nil},
	} {
		s := raft.NewInmemStore()
		for i := uint64(5); i <= 20; i++ {
			if err := s.StoreLog(&raft.Log{Index: i, Term: 2}); err != nil {
				t.Fatal(err)
			}
		}
		err := dropTail(s, c.index, c.term)
		last, _ := s.LastIndex()
		if !errors.Is(err, c.err) || (last == 0) != c.dropped {
			t.Errorf("%s: %v, last index %d", c.name, err, last)
		}
	}
}

func TestUserRestore(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "old"})
		src := newTestState()
		src.data.Values["k"] = "restored"
		snap := src.Snapshot()
		g := c.leader().group
		if err := g.Restore(within(t, 10*time.Second), int64(len(snap)), bytes.NewReader(snap)); err != nil {
			t.Fatal(err)
		}
		read, err := c.leader().group.ReadIndex(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for _, nd := range c.nodes {
			if err := nd.group.WaitApplied(within(t, 10*time.Second), read); err != nil {
				t.Fatalf("%s: %v", nd.id, err)
			}
			if got := nd.state.get("k"); got != "restored" {
				t.Errorf("%s has %q", nd.id, got)
			}
		}
		c.must(testCommand{Key: "k", Value: "new"})
		// A snapshot that cannot be restored must not reach raft, which would
		// panic on it, here and on every follower.
		if err := c.leader().group.Restore(within(t, time.Second), 3, strings.NewReader("bad")); err == nil {
			t.Error("a bad snapshot was restored")
		}
		c.must(testCommand{Key: "k", Value: "still works"})
	})
}

// A shutdown in the middle of a restore must wait; fails by the library's panic
// without awaitRestore. And a snapshot that passes the check and still cannot be restored stops the node
// with an error; when Restore returns it, the library panics instead.
func TestUnusableSnapshotStopsTheNodeWithoutPanic(t *testing.T) {
	tune := func(c *Config) { c.CheckSnapshot = func(io.Reader) error { return nil } }
	simulate(t, 1, 1, tune, func(t *testing.T, c *cluster) {
		c.startAll()
		g := c.leader().group
		go func() { _ = g.Restore(within(t, 10*time.Second), 3, strings.NewReader("bad")) }()
		var ae *ApplyError
		if err := <-c.nodes[0].fatal; !errors.As(err, &ae) {
			t.Errorf("OnFatal got %v", err)
		}
	})
}

func TestOnlyMessagesWithACommitIndexMakeFresh(t *testing.T) {
	c := newContacts(time.Now)
	l := newLink(&Config{ID: "n1", Transport: memtransport.New(time.Second, 0).Join("n1")}, c, &installs{}, newAppliedIndex(), newOverlap(&Config{}, nil, nil))
	l.term = func() uint64 { return 5 }
	see := func(term, commit uint64) bool {
		if err := l.inspect(&raft.RPC{Command: &raft.AppendEntriesRequest{Term: term, LeaderCommitIndex: commit}}); err != nil {
			t.Fatal(err)
		}
		return !c.fresh(10).IsZero()
	}
	l.applied.advance(10)
	if see(5, 0) {
		t.Error("a heartbeat made the follower fresh")
	}
	if see(4, 10) {
		t.Error("a deposed leader made the follower fresh")
	}
	if see(5, 10) {
		t.Error("the first word of a leader tells when it was sent: never before the one before it")
	}
	if !see(5, 10) {
		t.Error("the leader's commit index did not make the follower fresh")
	}
	l.cut("test")
	if err := l.inspect(&raft.RPC{Command: &raft.RequestVoteRequest{}}); !errors.Is(err, errCut) {
		t.Errorf("a node that is cut takes part: %v", err)
	}
}

// releasable leans on a field of the library's futures. If an update takes it
// away, this hangs until synctest sees the deadlock.
func TestFuturesCanBeReleased(t *testing.T) {
	simulate(t, 1, 1, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.leader()
		r := c.nodes[0].group.raft
		d := make(chan struct{})
		close(d)
		for name, f := range map[string]raft.Future{
			"apply": r.Apply(encodeTestBatch(0, nil), 0), "barrier": r.Barrier(0), "snapshot": r.Snapshot(),
			"add": r.AddNonvoter("x", "x", 0, 0), "verify": r.VerifyLeader(),
		} {
			v := reflect.ValueOf(releasable(f, d)).Elem().FieldByName("ShutdownCh")
			if !v.IsValid() || v.Interface() != d {
				t.Errorf("%s: ShutdownCh is not set", name)
			}
			_ = f.Error()
		}
	})
}

func TestMetricsRegisterOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	if _, err := newMetrics(reg); err != nil {
		t.Fatal(err)
	}
	if _, err := newMetrics(reg); err == nil {
		t.Error("the second group took the same registry")
	}
	if p, err := testutil.GatherAndLint(reg); err != nil || len(p) > 0 {
		t.Errorf("%v, %v", p, err)
	}
}
