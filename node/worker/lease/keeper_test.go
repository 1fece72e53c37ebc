package lease

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a state that knows workers and records who is declared lost, when.
type office struct {
	t      *testing.T
	keeper *Keeper
	begin  time.Time

	mu      sync.Mutex
	workers []Worker
	lost    map[fsm.NodeID]time.Duration
	calls   int
	fail    error
}

const length = 3 * time.Second

func newOffice(t *testing.T, nodes ...fsm.NodeID) *office {
	o := &office{t: t, begin: time.Now(), lost: map[fsm.NodeID]time.Duration{}}
	for _, id := range nodes {
		o.workers = append(o.workers, Worker{Node: id, Incarnation: 1})
	}
	o.keeper = NewKeeper(Config{Duration: length, Workers: o.list, Propose: o.propose})
	return o
}

func (o *office) list() []Worker {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.workers)
}

func (o *office) set(workers ...Worker) {
	o.mu.Lock()
	o.workers = workers
	o.mu.Unlock()
	o.keeper.Notify([]fsm.Change{{Kind: fsm.ChangeNode}})
}

func (o *office) propose(_ context.Context, commands [][]byte) ([]fsm.Result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	if o.fail != nil {
		return nil, o.fail
	}
	for _, raw := range commands {
		var c fsm.Command
		var body fsm.ExpireWorker
		if err := fsm.Unmarshal(raw, &c); err != nil {
			o.t.Error(err)
		}
		if err := fsm.Unmarshal(c.Body, &body); err != nil || c.Type != fsm.CmdExpireWorker {
			o.t.Errorf("command %v: %v", c.Type, err)
		}
		o.lost[body.Node] = time.Since(o.begin)
		o.workers = slices.DeleteFunc(o.workers, func(w Worker) bool { return w.Node == body.Node && w.Incarnation == body.Incarnation })
	}
	return make([]fsm.Result, len(commands)), nil
}

func (o *office) lostAt(id fsm.NodeID) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost[id]
}

// counts returns how many are lost and how many proposals it took.
func (o *office) counts() (lost, calls int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lost), o.calls
}

// lead runs the keeper in a bubble for the length of f.
func lead(t *testing.T, nodes []fsm.NodeID, f func(o *office)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, nodes...)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); o.keeper.Run(ctx) }()
		synctest.Wait()
		f(o)
		cancel()
		<-done
		if o.keeper.Heard("a", 1) {
			t.Error("a renewal counts after the office")
		}
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// guards P3: on a change of leader every worker gets exactly one full lease.
func TestNewLeaderGivesOneLease(t *testing.T) {
	lead(t, []fsm.NodeID{"a", "b"}, func(o *office) {
		pass(length - time.Millisecond)
		if lost, _ := o.counts(); lost != 0 {
			t.Fatalf("%d were lost before a whole lease", lost)
		}
		pass(2 * time.Millisecond)
		a, b := o.lostAt("a"), o.lostAt("b")
		if _, calls := o.counts(); a != length || b != length || calls != 1 {
			t.Errorf("lost at %v and %v in %d proposals, want both at %v in one", a, b, calls, length)
		}
	})
}

func TestSilenceCountsFromTheLastRenewal(t *testing.T) {
	lead(t, []fsm.NodeID{"a", "b"}, func(o *office) {
		for range 10 {
			pass(time.Second)
			if !o.keeper.Heard("a", 1) {
				t.Fatal("a renewal was refused")
			}
		}
		if o.lostAt("b") != length || o.lostAt("a") != 0 {
			t.Fatalf("b was lost at %v, a at %v", o.lostAt("b"), o.lostAt("a"))
		}
		pass(length)
		if got := o.lostAt("a"); got != 10*time.Second+length {
			t.Errorf("a was lost at %v", got)
		}
	})
}

// guards P3: after the decision nothing is acknowledged, also while the
// outcome of the proposal is unknown.
func TestDecisionIsFinal(t *testing.T) {
	lead(t, []fsm.NodeID{"a"}, func(o *office) {
		o.mu.Lock()
		o.fail = errors.New("outcome unknown")
		o.mu.Unlock()
		pass(length)
		if o.keeper.Heard("a", 1) {
			t.Error("a renewal after the decision was taken")
		}
		pass(time.Second)
		if o.keeper.Heard("a", 1) {
			t.Error("a renewal during the retries was taken")
		}
		if _, calls := o.counts(); calls < 5 || calls > 20 {
			t.Errorf("%d proposals in a second", calls)
		}
		o.mu.Lock()
		o.fail = nil
		o.mu.Unlock()
		pass(time.Second)
		if o.lostAt("a") == 0 {
			t.Error("the loss was never committed")
		}
		if o.keeper.Heard("a", 1) {
			t.Error("the lost incarnation was heard")
		}
		// It registers again, with the same incarnation: a lease of its own.
		o.set(Worker{Node: "a", Incarnation: 1})
		pass(time.Millisecond)
		if !o.keeper.Heard("a", 1) {
			t.Error("after its registration a is not heard")
		}
	})
}

func TestRegistrationsComeAndGo(t *testing.T) {
	lead(t, nil, func(o *office) {
		if o.keeper.Heard("a", 1) {
			t.Error("an unknown worker was heard")
		}
		o.mu.Lock()
		o.workers = []Worker{{Node: "a", Incarnation: 1}} // before any Notify
		o.mu.Unlock()
		if !o.keeper.Heard("a", 1) || o.keeper.Heard("a", 2) {
			t.Error("want this incarnation heard and no other")
		}
		pass(time.Second)
		o.set(Worker{Node: "a", Incarnation: 2})
		pass(length - time.Millisecond)
		if o.keeper.Heard("a", 1) || o.lostAt("a") != 0 {
			t.Error("the restart did not get its own lease")
		}
		o.set()
		pass(time.Hour)
		if lost, calls := o.counts(); lost != 0 || calls != 0 {
			t.Error("a removed worker was declared lost")
		}
	})
}

func TestSilentWithoutAnOffice(t *testing.T) {
	k := NewKeeper(Config{Workers: func() []Worker { return []Worker{{Node: "a", Incarnation: 1}} }})
	if k.Heard("a", 1) {
		t.Error("a renewal counts without an office")
	}
	if k.Duration() != DefaultDuration {
		t.Errorf("lease %v", k.Duration())
	}
}
