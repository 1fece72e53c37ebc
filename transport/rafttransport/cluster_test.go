package rafttransport

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/evidence"
	"holdfast/transport/internal/transporttest"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// machine is a state machine that keeps its commands.
type machine struct {
	mu   sync.Mutex
	cmds []string
}

func (m *machine) Apply(l *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmds = append(m.cmds, string(l.Data))
	return len(m.cmds)
}

func (m *machine) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.cmds)
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return snap{len(m.cmds)}, nil
}

// Restore counts commands only: that is what the test compares.
func (m *machine) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmds = make([]string, len(b))
	return err
}

type snap struct{ n int }

func (s snap) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(make([]byte, s.n)); err != nil {
		return sink.Cancel()
	}
	return sink.Close()
}
func (snap) Release() {}

// voter is one node of a real raft cluster.
type voter struct {
	*end
	raft     *raft.Raft
	fsm      *machine
	preVotes *counting
}

// counting counts the pre-votes that leave.
type counting struct {
	*Transport
	mu sync.Mutex
	n  int
}

func (c *counting) RequestPreVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestPreVoteRequest, p *raft.RequestPreVoteResponse) error {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	return c.Transport.RequestPreVote(id, a, q, p)
}

func (c *counting) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func startVoter(t *testing.T, e *end, conf raft.Configuration, timer time.Duration, wrap ...func(raft.LogStore) raft.LogStore) *voter {
	t.Helper()
	v := &voter{end: e, fsm: &machine{}, preVotes: &counting{Transport: e.Transport}}
	cfg := raft.DefaultConfig()
	cfg.LocalID = e.id
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = timer, timer, timer*2/3
	cfg.CommitTimeout = 5 * time.Millisecond
	cfg.TrailingLogs = 8 // so that a new node needs a snapshot
	cfg.Logger = hclog.NewNullLogger()
	store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	var logs raft.LogStore = store
	for _, w := range wrap {
		logs = w(logs)
	}
	if len(conf.Servers) > 0 {
		if err := raft.BootstrapCluster(cfg, logs, store, snaps, v.preVotes, conf); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if v.raft, err = raft.NewRaft(cfg, v.fsm, logs, store, snaps, v.preVotes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Shutdown waits for requests in flight; those to a dead peer end with
		// the transport instead of with their timeout.
		f := v.raft.Shutdown()
		_ = v.Transport.Close()
		_ = f.Error()
	})
	return v
}

// short timers, for tests in which raft elects by itself.
const short = 300 * time.Millisecond

func startCluster(t *testing.T, c *transporttest.Cluster, n int, timer time.Duration, wrap ...func(raft.LogStore) raft.LogStore) []*voter {
	t.Helper()
	var ends []*end
	var conf raft.Configuration
	for range n {
		e := newEnd(t, c)
		ends = append(ends, e)
		conf.Servers = append(conf.Servers, raft.Server{ID: e.id, Address: e.LocalAddr()})
	}
	var vs []*voter
	for _, e := range ends {
		vs = append(vs, startVoter(t, e, conf, timer, wrap...))
	}
	return vs
}

func leaderOf(t *testing.T, vs []*voter) *voter {
	t.Helper()
	var l *voter
	transporttest.Eventually(t, "a leader", func() bool {
		for _, v := range vs {
			if v.raft.State() == raft.Leader && v.raft.VerifyLeader().Error() == nil {
				l = v
				return true
			}
		}
		return false
	})
	return l
}

// apply writes n commands, finding the leader again when it changes.
func apply(t *testing.T, vs []*voter, n int) {
	t.Helper()
	for i := range n {
		transporttest.Eventually(t, "a write is committed", func() bool {
			return leaderOf(t, vs).raft.Apply(fmt.Appendf(nil, "cmd %d", i), time.Second).Error() == nil
		})
	}
}

// guards P1, P5: a real raft elects, replicates, survives its leader, installs
// snapshots and uses pre-vote over this transport.
func TestRealRaft(t *testing.T) {
	c := transporttest.New(t, "blue")
	vs := startCluster(t, c, 3, short)
	apply(t, vs, 30)
	total := leaderOf(t, vs).fsm.len()
	for _, v := range vs {
		transporttest.Eventually(t, "every replica has every command", func() bool { return v.fsm.len() >= total })
	}
	preVotes := 0
	for _, v := range vs {
		preVotes += v.preVotes.count()
	}
	if preVotes == 0 {
		t.Error("the first election went without pre-vote: raft did not recognise the transport")
	}

	// The leader goes; the others go on.
	old := leaderOf(t, vs)
	if err := old.raft.Shutdown().Error(); err != nil {
		t.Fatal(err)
	}
	_ = old.node.Close()
	var rest []*voter
	for _, v := range vs {
		if v != old {
			rest = append(rest, v)
		}
	}
	next := leaderOf(t, rest)
	if next.preVotes.count() == 0 {
		t.Error("the second election went without pre-vote")
	}
	apply(t, rest, 30)

	// A new node gets the state as a snapshot, since the log is cut off.
	next = leaderOf(t, rest)
	if err := next.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	fresh := startVoter(t, newEnd(t, c), raft.Configuration{}, short)
	transporttest.Eventually(t, "the node is added", func() bool {
		return leaderOf(t, rest).raft.AddNonvoter(fresh.id, fresh.LocalAddr(), 0, time.Second).Error() == nil
	})
	transporttest.Eventually(t, "the new node caught up by snapshot", func() bool {
		return fresh.fsm.len() >= next.fsm.len() && fresh.raft.Stats()["last_snapshot_index"] != "0"
	})
}

// The hook for failover by evidence: a follower takes office at once, although
// its leader is alive, and without asking for pre-votes.
func TestInjectedTimeoutNowElects(t *testing.T) {
	vs := startCluster(t, transporttest.New(t, "blue"), 3, short)
	leader := leaderOf(t, vs)
	apply(t, vs, 1)
	var follower *voter
	for _, v := range vs {
		if v != leader {
			follower = v
		}
	}
	transporttest.Eventually(t, "the follower has the log", func() bool { return follower.raft.LastIndex() >= leader.raft.LastIndex() })
	before := follower.preVotes.count()
	transporttest.Eventually(t, "the follower leads", func() bool {
		if follower.raft.State() == raft.Leader {
			return true
		}
		if err := follower.InjectTimeoutNow(t.Context()); err != nil {
			t.Error(err)
		}
		return false
	})
	if n := follower.preVotes.count(); n != before {
		t.Errorf("%d pre-votes for an injected election", n-before)
	}
	apply(t, vs, 1)
}

// guards P5: the end of the leader's process elects another one by evidence
// alone. Raft's timers are far beyond the patience of the test.
func TestElectionByEvidence(t *testing.T) {
	vs := startCluster(t, transporttest.New(t, "blue"), 3, time.Hour)
	elect := func(v *voter) {
		t.Helper()
		polls := 0
		transporttest.Eventually(t, "a leader", func() bool {
			// Again only now and then: each injection begins a new election.
			if polls++; polls%100 == 1 && v.raft.State() != raft.Leader {
				if err := v.InjectTimeoutNow(t.Context()); err != nil {
					t.Error(err)
				}
			}
			return v.raft.State() == raft.Leader
		})
	}
	elect(vs[0])
	apply(t, vs[:1], 5)
	gone := make(chan string, 1)
	prober := evidence.New(evidence.Config{Report: func(peer string, _ transport.Evidence) {
		select {
		case gone <- peer:
		default:
		}
	}})
	t.Cleanup(prober.Close)
	prober.Watch(string(vs[0].id), string(vs[0].LocalAddr()))
	transporttest.Eventually(t, "a follower has the log", func() bool { return vs[1].raft.LastIndex() >= vs[0].raft.LastIndex() })
	select {
	case peer := <-gone:
		t.Fatalf("evidence against %s, which is alive", peer)
	default:
	}
	vs[0].node.Crash()
	if peer := recv(t, "evidence", gone); peer != string(vs[0].id) {
		t.Errorf("evidence against %s", peer)
	}
	elect(vs[1]) // it has the whole log, so it can win
	apply(t, vs[1:2], 1)
}

// flaky is a log store whose writes fail now and then, on demand.
type flaky struct {
	raft.LogStore
	on    *atomic.Bool
	calls int // raft writes from one goroutine
}

func (f *flaky) StoreLogs(l []*raft.Log) error {
	if f.calls++; f.on.Load() && f.calls%3 == 0 {
		return errors.New("disk hiccup")
	}
	return f.LogStore.StoreLogs(l)
}

func (f *flaky) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

// guards P1: hashicorp/raft issue 612 with a real raft. Followers refuse
// entries in the middle of a pipeline, again and again; each must be
// replicated to afterwards, without a change of leader.
func TestFollowersRecoverFromRefusals(t *testing.T) {
	var switches []*atomic.Bool // by voter
	vs := startCluster(t, transporttest.New(t, "blue"), 3, short, func(l raft.LogStore) raft.LogStore {
		f := &flaky{LogStore: l, on: new(atomic.Bool)}
		switches = append(switches, f.on)
		return f
	})
	leader := leaderOf(t, vs)
	apply(t, []*voter{leader}, 1)
	var flaw *atomic.Bool
	for i, v := range vs {
		if v != leader {
			flaw = switches[i]
		}
	}
	flaw.Store(true)
	var wg sync.WaitGroup
	for range 4 { // bursts, so that raft's sender is triggered all the time
		wg.Go(func() { apply(t, []*voter{leader}, 40) })
	}
	wg.Wait()
	flaw.Store(false)
	if leader.raft.State() != raft.Leader {
		t.Fatal("the leader changed: the test proves nothing")
	}
	want := leader.fsm.len()
	apply(t, []*voter{leader}, 1)
	for _, v := range vs {
		transporttest.Eventually(t, "every replica has every command", func() bool { return v.fsm.len() > want })
	}
}
