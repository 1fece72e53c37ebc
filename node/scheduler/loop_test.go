package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is a real state whose proposals commit after a while.
type cluster struct {
	t       testing.TB
	state   *fsm.State
	loop    *Loop
	latency time.Duration

	mu      sync.Mutex
	index   uint64
	fail    error
	calls   []time.Time
	flight  int
	overlap bool
}

func newCluster(t testing.TB, nodes int, cpu uint32) *cluster {
	c := &cluster{t: t, state: fsm.New(fsm.Limits{}), latency: time.Millisecond}
	c.loop = NewLoop(Config{State: c.state, Propose: c.propose, Jitter: func() float64 { return 1 }})
	c.do(fsm.CmdInitCluster, fsm.InitCluster{ClusterID: "c", CACert: []byte{1}, CAKey: []byte{1}, First: "n0"})
	c.do(fsm.CmdCreateToken, fsm.CreateToken{ID: "j", Role: fsm.RoleNode, Hash: [32]byte{1}})
	for i := range nodes {
		id := fsm.NodeID(fmt.Sprintf("n%d", i))
		if i > 0 {
			c.do(fsm.CmdAdmitNode, fsm.AdmitNode{TokenID: "j", Hash: [32]byte{1}, Node: id})
		}
		c.do(fsm.CmdRegisterNode, fsm.RegisterNode{Node: fsm.Node{ID: id, Addr: "a:1", CPUMillis: cpu, MemoryBytes: 1 << 40, Incarnation: 1}})
	}
	return c
}

func (c *cluster) apply(commands ...[]byte) []fsm.Result {
	c.mu.Lock()
	c.index++
	applied, err := c.state.Apply(c.index, fsm.EncodeBatch(time.Now().UnixNano(), commands))
	c.mu.Unlock()
	if err != nil {
		c.t.Fatal(err)
	}
	c.loop.Notify(applied.Changes)
	return applied.Results
}

func (c *cluster) do(kind fsm.CommandType, body any) fsm.Result {
	c.t.Helper()
	command, err := fsm.NewCommand(kind, fsm.RequestID{}, "test", body)
	if err != nil {
		c.t.Fatal(err)
	}
	r := c.apply(command)[0]
	if r.Code != fsm.OK {
		c.t.Fatalf("command %v: %+v", kind, r)
	}
	return r
}

func (c *cluster) submit(n int, shape fsm.Shape) fsm.TaskID {
	c.t.Helper()
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Shape: shape})
	if err != nil {
		c.t.Fatal(err)
	}
	s := fsm.Submit{Tasks: make([]fsm.Submission, n)}
	for i := range s.Tasks {
		s.Tasks[i] = fsm.Submission{Shape: shape, Spec: spec}
	}
	return c.do(fsm.CmdSubmit, s).First
}

func (c *cluster) propose(ctx context.Context, commands [][]byte) ([]fsm.Result, error) {
	c.mu.Lock()
	c.calls = append(c.calls, time.Now())
	fail := c.fail
	c.flight++
	c.overlap = c.overlap || c.flight > 1
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.flight--; c.mu.Unlock() }()
	timer := time.NewTimer(c.latency)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	if fail != nil {
		return nil, fail
	}
	return c.apply(commands...), nil
}

func (c *cluster) proposals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

// lead runs the loop for the length of f.
func (c *cluster) lead(f func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.loop.Run(ctx) }()
	f()
	cancel()
	<-done
}

func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// advance lets the bubble's time pass and everything settle.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestLoopAssignsWithoutPolling(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 2, 1000)
		first := c.submit(10, fsm.Shape{CPUMillis: 500})
		c.lead(func() {
			advance(10 * time.Millisecond)
			if n := c.state.Counts().Running; n != 4 {
				t.Fatalf("%d tasks run, there is room for 4", n)
			}
			before := c.proposals()
			advance(time.Hour - time.Second)
			if c.proposals() != before {
				t.Errorf("%d proposals while nothing changed", c.proposals()-before)
			}
			v, _ := c.state.Task(first)
			c.do(fsm.CmdReport, fsm.Report{Node: v.Node, Incarnation: 1,
				Reports: []fsm.AttemptReport{{Task: first, Attempt: 1, Result: fsm.AttemptResult{Reason: fsm.EndExit}}}})
			advance(5 * time.Millisecond)
			if v, _ := c.state.Task(first + 4); v.State != fsm.Running {
				t.Error("the freed room was not given to the next task")
			}
		})
		if c.overlap {
			t.Error("two batches were in flight at once")
		}
	})
}

func TestLoopTicksWhenDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 1000)
		id := c.submit(1, fsm.Shape{CPUMillis: 5000, QueueTimeout: 10 * time.Second})
		c.lead(func() {
			advance(9900 * time.Millisecond)
			if v, _ := c.state.Task(id); v.State != fsm.Queued || c.proposals() != 0 {
				t.Fatalf("before its deadline: state %d, %d proposals", v.State, c.proposals())
			}
			advance(200 * time.Millisecond)
			if v, _ := c.state.Task(id); v.State != fsm.Expired {
				t.Errorf("after its deadline: state %d", v.State)
			}
			if c.proposals() > 3 {
				t.Errorf("%d proposals for one timer", c.proposals())
			}
		})
	})
}

// guards P10: a leader that is overloaded is asked less and less often.
func TestLoopBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 1000)
		c.fail = errors.New("overloaded")
		id := c.submit(1, fsm.Shape{CPUMillis: 1})
		c.lead(func() {
			for range 1000 { // changes do not shorten the pause
				c.loop.Wake()
				advance(10 * time.Millisecond)
			}
			if n := c.proposals(); n < 5 || n > 25 {
				t.Errorf("%d proposals in 10 s", n)
			}
			c.mu.Lock()
			c.fail = nil
			c.mu.Unlock()
			advance(2 * time.Second)
			if v, _ := c.state.Task(id); v.State != fsm.Running {
				t.Error("it did not recover")
			}
		})
	})
}

// A state that passes over a whole plan must not make the loop spin.
func TestLoopDoesNotSpinWithoutEffect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 1000)
		c.submit(1, fsm.Shape{CPUMillis: 1})
		c.loop = NewLoop(Config{State: liar{c.state}, Propose: c.propose})
		c.lead(func() { advance(10 * time.Second) })
		if n := c.proposals(); n > 25 {
			t.Errorf("%d proposals without effect in 10 s", n)
		}
	})
}

// liar shows a view that the state will never agree to.
type liar struct{ *fsm.State }

func (l liar) PlanView(perClass, classes int) fsm.PlanView {
	v := l.State.PlanView(perClass, classes)
	for i := range v.Classes {
		for j := range v.Classes[i].Tasks {
			v.Classes[i].Tasks[j].NextAttempt = 99
		}
	}
	return v
}

// A wall of classes that fit nowhere hides none that fits.
func TestLoopLooksBehindTheUnplaceable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 1000)
		for i := range 300 {
			c.submit(1, fsm.Shape{CPUMillis: 5000 + uint32(i), Priority: 50})
		}
		id := c.submit(1, fsm.Shape{CPUMillis: 10})
		c.lead(func() {
			advance(10 * time.Millisecond)
			if v, _ := c.state.Task(id); v.State != fsm.Running {
				t.Error("the one that fits still waits")
			}
		})
	})
}

func BenchmarkPlanMillionQueued(b *testing.B) {
	c := newCluster(b, 10, 100_000)
	for range 100 {
		c.submit(10_000, fsm.Shape{CPUMillis: 500})
	}
	bounds := Bounds{Tasks: largeRound, Classes: firstClasses}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(Plan(c.state.PlanView(bounds.Tasks, bounds.Classes), bounds)); n != largeRound {
			b.Fatalf("planned %d", n)
		}
	}
	b.ReportMetric(float64(largeRound)*float64(b.N)/b.Elapsed().Seconds(), "assignments/s")
}
