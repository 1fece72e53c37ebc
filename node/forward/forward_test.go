package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"holdfast/consensus"
	"holdfast/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeGroup is one node's raft group as forward sees it. A command commits by
// counting; the same bytes committed twice are counted twice.
type fakeGroup struct {
	mu      sync.Mutex
	leader  consensus.LeaderInfo
	refuse  error // every proposal's answer, if set
	doubt   error // the next proposal's answer, which commits all the same
	hold    chan struct{}
	commits map[string]int
	index   uint64
}

func newGroup(l consensus.LeaderInfo) *fakeGroup {
	return &fakeGroup{leader: l, commits: map[string]int{}}
}

func (g *fakeGroup) Leader() consensus.LeaderInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leader
}

func (g *fakeGroup) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *fakeGroup) ProposeAsync(cmds [][]byte, done func([]fsm.Result, uint64, error)) {
	g.mu.Lock()
	refuse, hold := g.refuse, g.hold
	if g.doubt != nil {
		refuse = nil
	}
	if refuse == nil {
		for _, c := range cmds {
			g.commits[string(c)]++
		}
		g.index++
	}
	results := make([]fsm.Result, len(cmds))
	for i, c := range cmds {
		results[i] = fsm.Result{Detail: "of " + string(c)}
	}
	index := g.index
	if g.doubt != nil {
		refuse, g.doubt = g.doubt, nil
	}
	g.mu.Unlock()
	go func() {
		if hold != nil {
			<-hold
		}
		if refuse != nil {
			done(nil, 0, refuse)
			return
		}
		done(results, index, nil)
	}()
}

// follower makes a forwarder that reaches the given leaders by ID.
func follower(t *testing.T, own *fakeGroup, leaders map[string]*fakeGroup) *Forwarder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	f := New(Config{Group: own, Logger: hclog.NewNullLogger(), Now: time.Now,
		Open: func(_ context.Context, node string) (net.Conn, error) {
			g := leaders[node]
			if g == nil {
				return nil, errors.New("cannot be reached")
			}
			a, b := net.Pipe()
			served.Go(func() { _ = Serve(ctx, g, b) })
			return a, nil
		}})
	t.Cleanup(func() { f.Close(); cancel(); served.Wait() })
	return f
}

func TestForwardsToTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := newGroup(consensus.LeaderInfo{ID: "n1", Self: true})
		own := newGroup(consensus.LeaderInfo{ID: "n1"})
		f := follower(t, own, map[string]*fakeGroup{"n1": remote})
		const n = 5000
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				cmd := fmt.Sprint("c", i)
				r, index, err := f.Propose(t.Context(), []byte(cmd))
				if err != nil || r.Detail != "of "+cmd || index == 0 {
					t.Errorf("%s: %+v at %d, %v", cmd, r, index, err)
				}
			})
		}
		wg.Wait()
		if len(remote.commits) != n || len(own.commits) != 0 {
			t.Fatalf("%d committed there, %d here", len(remote.commits), len(own.commits))
		}
	})
}

// What was queued for one leader reaches the next one. guards P1
func TestFollowsALeaderChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		second := newGroup(consensus.LeaderInfo{ID: "n2", Self: true})
		own := newGroup(consensus.LeaderInfo{})
		f := follower(t, own, map[string]*fakeGroup{"n2": second})
		got := make(chan error, 1)
		go func() { _, _, err := f.Propose(t.Context(), []byte("x")); got <- err }()
		synctest.Wait()
		own.set(func() { own.leader = consensus.LeaderInfo{ID: "n1"} }) // dead: cannot be reached
		f.LeaderChanged()
		time.Sleep(time.Second) // synctest: the bubble's own time
		own.set(func() { own.leader = consensus.LeaderInfo{ID: "n2"} })
		f.LeaderChanged()
		if err := <-got; err != nil || second.commits["x"] != 1 {
			t.Fatal(err, second.commits)
		}
	})
}

// A leader that took the command and went silent may have committed it: the
// next leader gets it again (request IDs make that safe), and without a next
// leader the outcome is unknown, never "nothing was changed".
func TestSilentLeaderLeavesTheOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := newGroup(consensus.LeaderInfo{ID: "n1", Self: true})
		first.hold = make(chan struct{})
		own := newGroup(consensus.LeaderInfo{ID: "n1"})
		second := newGroup(consensus.LeaderInfo{ID: "n2", Self: true})
		f := follower(t, own, map[string]*fakeGroup{"n1": first, "n2": second})
		defer close(first.hold)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan error, 1)
		f.ProposeAsync(time.Now().Add(5*time.Second), []byte("x"), func(_ fsm.Result, _ uint64, err error) { got <- err })
		synctest.Wait()
		own.set(func() { own.leader = consensus.LeaderInfo{} })
		f.LeaderChanged()
		if err := <-got; !errors.Is(err, consensus.ErrUnknownOutcome) {
			t.Fatal(err)
		}
		own.set(func() { own.leader = consensus.LeaderInfo{ID: "n1"} })
		f.LeaderChanged()
		go func() { _, _, err := f.Propose(ctx, []byte("y")); got <- err }()
		synctest.Wait()
		own.set(func() { own.leader = consensus.LeaderInfo{ID: "n2"} })
		f.LeaderChanged()
		if err := <-got; err != nil || second.commits["y"] != 1 || first.commits["y"] != 1 {
			t.Fatal(err, second.commits, first.commits)
		}
	})
}

func TestNoLeaderIsDefinite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follower(t, newGroup(consensus.LeaderInfo{}), nil)
		got := make(chan error, 1)
		f.ProposeAsync(time.Now().Add(time.Second), []byte("x"), func(_ fsm.Result, _ uint64, err error) { got <- err })
		if err := <-got; !errors.Is(err, ErrNoLeader) {
			t.Fatal(err)
		}
	})
}

// guards P10
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := follower(t, newGroup(consensus.LeaderInfo{}), nil)
		got := make(chan error, 2*maxCalls)
		for range maxCalls {
			f.ProposeAsync(time.Now().Add(time.Minute), []byte("x"), func(_ fsm.Result, _ uint64, err error) { got <- err })
		}
		f.ProposeAsync(time.Now().Add(time.Minute), []byte("x"), func(_ fsm.Result, _ uint64, err error) { got <- err })
		if err := <-got; !errors.Is(err, consensus.ErrOverloaded) {
			t.Fatal(err)
		}
		f.Close() // answers the rest
		for range maxCalls {
			if err := <-got; !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		}
	})
}

func TestOverloadAndSizeAreDefinite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, want := range []error{consensus.ErrOverloaded, consensus.ErrTooLarge} {
			remote := newGroup(consensus.LeaderInfo{ID: "n1", Self: true})
			remote.refuse = want
			f := follower(t, newGroup(consensus.LeaderInfo{ID: "n1"}), map[string]*fakeGroup{"n1": remote})
			if _, _, err := f.Propose(t.Context(), []byte("x")); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
	})
}

func TestLeaderProposesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := newGroup(consensus.LeaderInfo{ID: "n1", Self: true})
		f := follower(t, own, nil)
		if _, _, err := f.Propose(t.Context(), []byte("x")); err != nil || own.commits["x"] != 1 {
			t.Fatal(err, own.commits)
		}
		// Losing office in the middle: refused here, taken by the next one.
		own.set(func() { own.refuse = &consensus.NotLeaderError{} })
		got := make(chan error, 1)
		go func() { _, _, err := f.Propose(t.Context(), []byte("y")); got <- err }()
		time.Sleep(100 * time.Millisecond) // synctest: several retries
		own.set(func() { own.refuse = nil })
		if err := <-got; err != nil || own.commits["y"] != 1 {
			t.Fatal(err, own.commits)
		}
	})
}

// A command that may have been applied is never told "refused" for its later
// copies, whoever leads. guards P2, P10
func TestNoRefusalAfterDoubt(t *testing.T) {
	for _, later := range []error{consensus.ErrOverloaded, consensus.ErrTooLarge, &consensus.NotLeaderError{}} {
		for _, self := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				leader := newGroup(consensus.LeaderInfo{ID: "n1", Self: true})
				leader.doubt, leader.refuse = consensus.ErrUnknownOutcome, later
				own := leader
				if !self {
					own = newGroup(consensus.LeaderInfo{ID: "n1"})
				}
				f := follower(t, own, map[string]*fakeGroup{"n1": leader})
				got := make(chan error, 1)
				f.ProposeAsync(time.Now().Add(time.Second), []byte("x"), func(_ fsm.Result, _ uint64, err error) { got <- err })
				if err := <-got; !errors.Is(err, consensus.ErrUnknownOutcome) || leader.commits["x"] != 1 {
					t.Errorf("after %v, leader itself %v: got %v, committed %d times", later, self, err, leader.commits["x"])
				}
			})
		}
	}
}
