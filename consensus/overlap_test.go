package consensus

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// hangable gives every node a disk that can hang.
func hangable(c *cluster) map[string]*stuckLogs {
	disks := map[string]*stuckLogs{}
	for _, nd := range c.nodes {
		d := &stuckLogs{LogStore: nd.logs}
		disks[nd.id], nd.logs = d, d
	}
	return disks
}

// inFlight is a cluster whose leader's disk holds an entry back.
type inFlight struct {
	l       *testNode
	rest    []int
	index   uint64 // of the entry
	release func()
	outcome chan error // of the proposal
}

// holdEntry commits an entry, and proposes one that every disk but the leader's
// has soon.
func holdEntry(t *testing.T, c *cluster) inFlight {
	t.Helper()
	disks := hangable(c)
	c.startAll()
	_, committed := c.must(testCommand{Key: "k", Value: "old"})
	f := inFlight{l: c.leader(), index: committed + 1, outcome: make(chan error, 1)}
	f.rest = c.others(f.l)
	f.release = disks[f.l.id].hang()
	f.l.group.ProposeAsync([][]byte{testCommand{Key: "k", Value: "new"}.encode()}, func(_ []fsm.Result, _ uint64, err error) { f.outcome <- err })
	eventually(t, "the entry on the followers' disks", func() bool {
		for _, i := range f.rest {
			if last, _ := c.nodes[i].logs.LastIndex(); last < f.index {
				return false
			}
		}
		return true
	})
	elapse(100 * time.Millisecond) // several times what a follower needs to hear of a commit
	return f
}

// lateAndEarly runs a test with the safeguard, and without: then leaks must
// report true.
func lateAndEarly(t *testing.T, without mutants, leaks func(t *testing.T, c *cluster) bool) {
	for name, mut := range map[string]mutants{"as it is": {}, "without the safeguard": without} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 3, 3, func(cfg *Config) { cfg.mutants = mut }, func(t *testing.T, c *cluster) {
				if got, want := leaks(t, c), mut != (mutants{}); got != want {
					t.Errorf("leaks: %v, want %v", got, want)
				}
			})
		})
	}
}

// guards P1
func TestEntryIsAppliedWhenItIsDurableHere(t *testing.T) {
	lateAndEarly(t, mutants{noApplyWait: true}, func(t *testing.T, c *cluster) bool {
		f := holdEntry(t, c)
		leaked := f.l.state.get("k") == "new" || len(f.outcome) > 0
		if got := f.l.group.CommitIndex(); got >= f.index {
			t.Errorf("tells commit index %d with entry %d in flight", got, f.index)
		}
		if index, err := f.l.group.ReadIndex(within(t, time.Second)); err != nil || index >= f.index {
			t.Errorf("reads at %d, %v", index, err)
		}
		f.release()
		if err := <-f.outcome; err != nil {
			t.Error(err)
		}
		return leaked
	})
}

// guards P9
func TestFollowersHearOfDurableCommits(t *testing.T) {
	lateAndEarly(t, mutants{noClamp: true}, func(t *testing.T, c *cluster) bool {
		f := holdEntry(t, c)
		leaked := false
		for _, i := range f.rest {
			leaked = leaked || c.nodes[i].group.AppliedIndex() >= f.index
		}
		f.release()
		for _, i := range f.rest {
			eventually(t, "the commit on "+nodeID(i), func() bool { return c.nodes[i].state.get("k") == "new" })
		}
		return leaked
	})
}

// A leader that becomes a follower and gets its own entry back, as a successor
// may send it, vouches for it only when it is durable.
// guards P1
func TestFollowerAnswersWhenItsTailIsDurable(t *testing.T) {
	lateAndEarly(t, mutants{noYield: true}, func(t *testing.T, c *cluster) bool {
		f := holdEntry(t, c)
		var before, own raft.Log
		for i, l := range map[uint64]*raft.Log{f.index - 1: &before, f.index: &own} {
			if err := f.l.group.overlap.GetLog(i, l); err != nil {
				t.Fatal(err)
			}
		}
		from := c.nodes[f.rest[0]].transport
		req := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from.LocalAddr()), Addr: []byte(from.LocalAddr())},
			Term:      f.l.group.raft.CurrentTerm() + 1, PrevLogEntry: before.Index, PrevLogTerm: before.Term, Entries: []*raft.Log{&own},
		}
		var resp raft.AppendEntriesResponse
		err := from.AppendEntries(raft.ServerID(f.l.id), raft.ServerAddress(f.l.id), req, &resp)
		leaked := err == nil && resp.Success
		f.release()
		if !leaked {
			eventually(t, "an answer after the write", func() bool {
				err = from.AppendEntries(raft.ServerID(f.l.id), raft.ServerAddress(f.l.id), req, &resp)
				return err == nil
			})
		}
		return leaked
	})
}

// The library gives a snapshot the index of the last entry that passed the
// apply goroutine, also of a barrier.
func TestSnapshotCoversWhatIsDurable(t *testing.T) {
	lateAndEarly(t, mutants{noSnapshotWait: true}, func(t *testing.T, c *cluster) bool {
		disks := hangable(c)
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		release := disks[l.id].hang()
		barrier := l.group.raft.Barrier(0)
		if err := barrier.Error(); err != nil { // the state machine is not asked
			t.Fatal(err)
		}
		taken := make(chan error, 1)
		go func() { taken <- l.group.Snapshot(context.Background()) }()
		elapse(100 * time.Millisecond)
		leaked := len(taken) > 0
		release()
		if err := <-taken; err != nil {
			t.Error(err)
		}
		return leaked
	})
}

// A change of the configuration is answered when its entry is durable here, and
// the next one waits for it.
func TestConfigurationChangeWaitsForTheDisk(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		disks := hangable(c)
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		release := disks[l.id].hang()
		changed := make(chan error, 1)
		go func() { changed <- l.group.AddNonvoter(t.Context(), "n4", "n4") }()
		elapse(100 * time.Millisecond)
		if len(changed) > 0 {
			t.Errorf("answered with the entry in flight: %v", <-changed)
		}
		second := l.group.raft.AddNonvoter("n5", "n5", 0, 0)
		elapse(100 * time.Millisecond)
		for _, i := range c.others(l) {
			if _, ok := findServer(c.nodes[i].group.servers(), "n5"); ok {
				t.Error("a second change went beside the first")
			}
		}
		release()
		if err := errors.Join(<-changed, second.Error()); err != nil {
			t.Error(err)
		}
	})
}

// A restore over an entry in flight: whatever becomes of the entry, the state
// is the restored one everywhere.
func TestUserRestoreOverAnEntryInFlight(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		f := holdEntry(t, c)
		src := newTestState()
		src.data.Values["k"] = "restored"
		snap := src.Snapshot()
		restored := make(chan error, 1)
		go func() {
			restored <- f.l.group.Restore(context.WithoutCancel(t.Context()), int64(len(snap)), bytes.NewReader(snap))
		}()
		elapse(100 * time.Millisecond)
		f.release()
		if err := <-restored; err != nil {
			t.Fatal(err)
		}
		if err := <-f.outcome; err != nil && !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("the entry in flight: %v", err)
		}
		_, index := c.must(testCommand{Key: "after", Value: "v"})
		for _, nd := range c.nodes {
			if err := nd.group.WaitApplied(within(t, 10*time.Second), index); err != nil || nd.state.get("k") != "restored" {
				t.Errorf("%s has %q, %v", nd.id, nd.state.get("k"), err)
			}
		}
	})
}

// failingLogs fail in writes once told to.
type failingLogs struct {
	raft.LogStore
	err chan error // capacity 1
}

func (f failingLogs) StoreLogs(l []*raft.Log) error {
	select {
	case err := <-f.err:
		return err
	default:
		return f.LogStore.StoreLogs(l)
	}
}

// guards P12: the entry of a failed append is never released as a success, also
// when all others have it, and the leader is gone for its peers.
func TestFailedAppendEndsTheLeader(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		disks := map[string]failingLogs{}
		for _, nd := range c.nodes {
			d := failingLogs{nd.logs, make(chan error, 1)}
			disks[nd.id], nd.logs = d, d
		}
		c.startAll()
		c.must(testCommand{Key: "k", Value: "old"})
		l := c.leader()
		broken := errors.New("input/output error")
		disks[l.id].err <- broken
		cmd := testCommand{Key: "k", Value: "new", RequestID: "1"}
		if _, _, err := l.group.Propose(within(t, 10*time.Second), cmd.encode()); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
		if err := <-l.fatal; !errors.Is(err, broken) {
			t.Errorf("OnFatal got %v", err)
		}
		c.must(cmd, c.others(l)...)
		o := l.group.overlap
		var e raft.Log
		if p := o.pending.Load(); p == nil || o.GetLog(p.first, &e) != nil {
			t.Error("raft cannot read what it has stored")
		}
		if err := o.StoreLogs([]*raft.Log{{Index: e.Index + 1, Term: e.Term}}); !errors.Is(err, broken) {
			t.Errorf("an append after the failure: %v", err)
		}
		if err := o.DeleteRange(e.Index, e.Index); !errors.Is(err, broken) {
			t.Errorf("a deletion after the failure: %v", err)
		}
		if l.state.get("k") != "old" {
			t.Error("the state machine got an entry that is not durable")
		}
	})
}

// An append that outlives the group's end is not applied when it comes, nor is
// anything after it: what was answered as unknown stays unknown here.
func TestNothingIsAppliedAfterAHungAppend(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		f := holdEntry(t, c)
		f.l.group.Abandon(errors.New("disk stalled"))
		if err := <-f.outcome; !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
		f.release()
		eventually(t, "the end of the write", func() bool { return f.l.group.overlap.pending.Load() == nil })
		elapse(time.Second)
		if got := f.l.state.get("k"); got != "old" || f.l.group.AppliedIndex() >= f.index {
			t.Errorf("k = %q, applied %d", got, f.l.group.AppliedIndex())
		}
	})
}

// Alone, a leader has nothing to do meanwhile; and what is not an append of the
// leader's own present term is a follower's.
func TestAppendsThatAreWrittenThrough(t *testing.T) {
	simulate(t, 1, 1, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		if o := c.nodes[0].group.overlap; o.leads([]*raft.Log{{Index: 99, Term: c.nodes[0].group.raft.CurrentTerm()}}) {
			t.Error("one voter overlaps")
		}
	})
	simulate(t, 3, 3, nil, func(t *testing.T, c *cluster) {
		c.startAll()
		c.must(testCommand{Key: "k", Value: "v"})
		l := c.leader()
		o, term := l.group.overlap, l.group.raft.CurrentTerm()
		for name, logs := range map[string][]*raft.Log{
			"none": {}, "an older term": {{Index: 9, Term: term - 1}}, "two terms": {{Index: 9, Term: term}, {Index: 10, Term: term + 1}},
			"a gap": {{Index: 9, Term: term}, {Index: 11, Term: term}},
		} {
			if o.leads(logs) {
				t.Errorf("%s: overlaps", name)
			}
		}
		if !o.leads([]*raft.Log{{Index: 9, Term: term}, {Index: 10, Term: term}}) {
			t.Error("a leader's append is written through")
		}
		if c.nodes[c.others(l)[0]].group.overlap.leads([]*raft.Log{{Index: 9, Term: term}}) {
			t.Error("a follower overlaps")
		}
	})
}

func TestOverlapReadsWhatIsInFlight(t *testing.T) {
	below := raft.NewInmemStore()
	disk := &stuckLogs{LogStore: below}
	o := newOverlap(&Config{Logs: disk}, nil, nil)
	o.writer.Go(o.write)
	release := disk.hang()
	p := &pendingWrite{logs: []*raft.Log{{Index: 5, Term: 3}, {Index: 6, Term: 3}}, first: 5, last: 6, done: make(chan struct{})}
	o.pending.Store(p)
	o.work <- p
	check := func(in bool) {
		t.Helper()
		first, err := o.FirstIndex()
		last, err2 := o.LastIndex()
		var l raft.Log
		if err3 := o.GetLog(6, &l); errors.Join(err, err2, err3) != nil || first != 5 || last != 6 || l.Index != 6 {
			t.Errorf("%d..%d, entry %d, %v", first, last, l.Index, errors.Join(err, err2, err3))
		}
		if in != (o.clamp(9) == 4) || o.clamp(3) != 3 || o.wait(4) != nil {
			t.Errorf("clamp %d", o.clamp(9))
		}
	}
	check(true)
	release()
	if err := o.StoreLogs([]*raft.Log{{Index: 7, Term: 3}}); err != nil { // waits
		t.Fatal(err)
	}
	if last, _ := below.LastIndex(); last != 7 {
		t.Errorf("the store below ends at %d", last)
	}
	if err := o.DeleteRange(7, 7); err != nil {
		t.Fatal(err)
	}
	_ = below.DeleteRange(7, 7)
	if o.pending.Load() != nil || o.clamp(9) != 9 || o.wait(9) != nil || o.yield(3) != nil {
		t.Error("something is in flight")
	}
	o.close()
	if o.IsMonotonic() {
		t.Error("the store below is not monotonic")
	}
}
