package dispatch

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is what a test wants the hub to see.
type state struct {
	mu         sync.Mutex
	node       fsm.NodeView
	running    []fsm.Assignment
	superseded []fsm.Assignment
	tasks      map[fsm.TaskID]*fsm.TaskView
}

func (s *state) Node(id fsm.NodeID) (fsm.NodeView, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node, s.node.ID == id
}

func (s *state) Running(fsm.NodeID) []fsm.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func (s *state) Superseded(fsm.NodeID) []fsm.Assignment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.superseded
}

func (s *state) Task(id fsm.TaskID) (*fsm.TaskView, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.tasks[id]
	return v, ok
}

// leases says yes or no.
type leases struct{ deny bool }

func (l *leases) Duration() time.Duration       { return 3 * time.Second }
func (l *leases) Heard(fsm.NodeID, uint64) bool { return !l.deny }
func running(id fsm.TaskID, attempt uint32) *fsm.TaskView {
	return &fsm.TaskView{ID: id, State: fsm.Running, Attempt: attempt, Node: "n", SpecBytes: []byte{0xa0}}
}

// stage is one hub that leads, and one worker's stream to it.
type stage struct {
	t         *testing.T
	state     *state
	leases    *leases
	hub       *Hub
	verifyErr error
	propose   func([][]byte) ([]fsm.Result, error)
	depose    context.CancelFunc
	stream    net.Conn
	reader    *protocol.Reader
	served    chan error
}

func onStage(t *testing.T, f func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, leases: &leases{}, served: make(chan error, 1),
			state:   &state{tasks: map[fsm.TaskID]*fsm.TaskView{}, node: fsm.NodeView{Node: fsm.Node{ID: "n", Incarnation: 7}, Admitted: true, Registered: true}},
			propose: func(c [][]byte) ([]fsm.Result, error) { return make([]fsm.Result, len(c)), nil }}
		s.hub = New(Config{State: s.state, Leases: s.leases,
			Propose: func(_ context.Context, c [][]byte) ([]fsm.Result, error) { return s.propose(c) },
			Verify:  func(context.Context) error { return s.verifyErr }})
		office, depose := context.WithCancel(context.Background())
		s.depose = depose
		led := make(chan struct{})
		go func() { defer close(led); s.hub.Lead(office, 12) }()
		synctest.Wait()
		near, far := net.Pipe()
		s.stream, s.reader = near, protocol.NewReader(near)
		go func() { s.served <- s.hub.Serve(context.Background(), "n", far) }()
		f(t, s)
		_ = near.Close()
		depose()
		<-led
		<-s.served
		if s.hub.Connected("n") {
			t.Error("the session is still counted")
		}
	})
}

func (s *stage) say(message any) {
	s.t.Helper()
	frame, err := protocol.Append(nil, message)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.stream.Write(frame); err != nil {
		s.t.Fatalf("send %T: %v", message, err)
	}
}

func (s *stage) hear(want any) {
	s.t.Helper()
	got, err := s.reader.Next()
	if err != nil {
		s.t.Fatalf("want %T: %v", want, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Fatal(diff)
	}
}

func (s *stage) refused(code protocol.RefuseCode) {
	s.t.Helper()
	got, err := s.reader.Next()
	if r, ok := got.(*protocol.Refuse); err != nil || !ok || r.Code != code || r.Detail == "" {
		s.t.Fatalf("%+v, %v, want Refuse %d with a reason", got, err, code)
	}
	if _, err := s.reader.Next(); err == nil {
		s.t.Error("the stream goes on after the refusal")
	}
}

func (s *stage) hello(attempts ...protocol.Key) {
	s.say(&protocol.Hello{Version: 1, Node: "n", Incarnation: 7, Attempts: attempts})
}

func (s *stage) begin() {
	s.t.Helper()
	s.hello()
	s.hear(&protocol.Welcome{Version: 1, Term: 12, Lease: 3 * time.Second})
}

func k(task fsm.TaskID, attempt uint32) protocol.Key {
	return protocol.Key{Task: task, Attempt: attempt}
}

// guards P6, P8: no session for who is not known, alive and who it says it is.
func TestRefusals(t *testing.T) {
	hello := &protocol.Hello{Version: 1, Node: "n", Incarnation: 7}
	for _, c := range []struct {
		name  string
		set   func(s *stage)
		first any
		want  protocol.RefuseCode
	}{
		{"not Hello", func(*stage) {}, &protocol.Renew{Seq: 1}, protocol.RefuseProtocol},
		{"another version", func(*stage) {}, &protocol.Hello{Version: 99, Node: "n", Incarnation: 7}, protocol.RefuseVersion},
		{"another node's name", func(*stage) {}, &protocol.Hello{Version: 1, Node: "m", Incarnation: 7}, protocol.RefuseProtocol},
		{"another incarnation", func(*stage) {}, &protocol.Hello{Version: 1, Node: "n", Incarnation: 6}, protocol.RefuseRegister},
		{"unknown", func(s *stage) { s.state.node.ID = "x" }, hello, protocol.RefuseRegister},
		{"never registered", func(s *stage) { s.state.node.Registered = false }, hello, protocol.RefuseRegister},
		{"lost", func(s *stage) { s.state.node.Lost = true }, hello, protocol.RefuseRegister},
		{"removed", func(s *stage) { s.state.node.Removed = true }, hello, protocol.RefuseRemoved},
		{"loss decided", func(s *stage) { s.leases.deny = true }, hello, protocol.RefuseRegister},
		{"leadership in doubt", func(s *stage) { s.verifyErr = errors.New("no majority") }, hello, protocol.RefuseNotLeader},
		{"deposed", func(s *stage) { s.depose(); synctest.Wait() }, hello, protocol.RefuseNotLeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				c.set(s)
				s.say(c.first)
				s.refused(c.want)
			})
		})
	}
}

// guards P10: a stream that says nothing is closed.
func TestSilentStream(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		begin := time.Now()
		if _, err := s.reader.Next(); err == nil || time.Since(begin) != helloTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestWelcomeReconciles(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		for _, id := range []fsm.TaskID{1, 2} {
			s.state.running = append(s.state.running, fsm.Assignment{Task: id, Attempt: 1, Node: "n"})
			s.state.tasks[id] = running(id, 1)
		}
		s.state.tasks[3] = &fsm.TaskView{ID: 3, State: fsm.Cancelled, Attempt: 1}
		s.state.superseded = []fsm.Assignment{{Task: 3, Attempt: 1}, {Task: 4, Attempt: 2}} // 4 never reached the worker
		s.hello(k(1, 1), k(3, 1), k(5, 1))
		s.hear(&protocol.Welcome{Version: 1, Term: 12, Lease: 3 * time.Second,
			Superseded: []protocol.Revocation{{Key: k(3, 1), Grace: true}, {Key: k(5, 1)}}})
		s.hear(&protocol.Revoke{Items: []protocol.Revocation{{Key: k(4, 2)}}})
		s.hear(&protocol.Assign{Items: []protocol.Assignment{{Key: k(2, 1), Spec: []byte{0xa0}}}})
	})
}

// An assignment that the state no longer holds when it would go out does not.
func TestChangesAreLookedUpAgain(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.begin()
		s.state.mu.Lock()
		s.state.tasks[1] = running(1, 2) // attempt 1 is over
		s.state.tasks[2] = running(2, 1)
		s.state.tasks[3] = running(3, 1)
		s.state.tasks[3].Node = "elsewhere"
		s.state.mu.Unlock()
		var changes []fsm.Change
		for id := fsm.TaskID(1); id <= 4; id++ {
			changes = append(changes, fsm.Change{Kind: fsm.ChangeAssigned, Task: id, Attempt: 1, Node: "n"})
		}
		changes = append(changes, fsm.Change{Kind: fsm.ChangeRevoked, Task: 1, Attempt: 1, Node: "n"},
			fsm.Change{Kind: fsm.ChangeAssigned, Task: 2, Attempt: 1, Node: "another"})
		s.hub.Notify(changes)
		s.hear(&protocol.Revoke{Items: []protocol.Revocation{{Key: k(1, 1)}}})
		s.hear(&protocol.Assign{Items: []protocol.Assignment{{Key: k(2, 1), Spec: []byte{0xa0}}}})
	})
}

func TestAssignsAreSplitBySize(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.begin()
		var changes []fsm.Change
		for id := fsm.TaskID(1); id <= 40; id++ {
			v := running(id, 1)
			v.SpecBytes = make([]byte, 64<<10)
			s.state.tasks[id] = v
			changes = append(changes, fsm.Change{Kind: fsm.ChangeAssigned, Task: id, Attempt: 1, Node: "n"})
		}
		s.hub.Notify(changes)
		for got := 0; got < 40; {
			m, err := s.reader.Next()
			a, ok := m.(*protocol.Assign)
			if err != nil || !ok || len(a.Items) > 4 {
				t.Fatalf("%T, %v", m, err)
			}
			got += len(a.Items)
		}
	})
}

func TestReportsAreAnswered(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var fail error
		reported := 0
		s.hub.cfg.Reported = func() { reported++ }
		s.propose = func([][]byte) ([]fsm.Result, error) { return []fsm.Result{{}}, fail }
		s.begin()
		report := &protocol.Report{Seq: 4, Reports: []fsm.AttemptReport{{Task: 1, Attempt: 1, Result: fsm.AttemptResult{Reason: fsm.EndExit}}}}
		fail = errors.New("overloaded")
		s.say(report)
		s.hear(&protocol.Reported{Seq: 4, Retry: true})
		fail = nil
		s.say(report)
		s.hear(&protocol.Reported{Seq: 4})
		s.propose = func([][]byte) ([]fsm.Result, error) { return []fsm.Result{{Code: fsm.CodeConflict}}, nil }
		s.say(report)
		s.hear(&protocol.Reported{Seq: 4}) // refused for ever: nothing to repeat
		if reported != 2 {
			t.Errorf("told of %d commits", reported)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *stage)
		want protocol.RefuseCode
	}{
		{"deposed", func(s *stage) { s.depose() }, protocol.RefuseNotLeader},
		{"lost", func(s *stage) {
			s.state.mu.Lock()
			s.state.node.Lost = true
			s.state.mu.Unlock()
			s.hub.Notify([]fsm.Change{{Kind: fsm.ChangeNode, Node: "n"}})
		}, protocol.RefuseRegister},
		{"removed", func(s *stage) {
			s.state.mu.Lock()
			s.state.node.Removed = true
			s.state.mu.Unlock()
			s.hub.Notify([]fsm.Change{{Kind: fsm.ChangeNode, Node: "n"}})
		}, protocol.RefuseRemoved},
		{"a renewal after the decision", func(s *stage) { s.leases.deny = true; s.say(&protocol.Renew{Seq: 1}) }, protocol.RefuseRegister},
		{"a renewal without a majority", func(s *stage) { s.verifyErr = errors.New("no"); s.say(&protocol.Renew{Seq: 1}) }, protocol.RefuseNotLeader},
		{"a second Hello", func(s *stage) { s.hello() }, protocol.RefuseProtocol},
		{"another session of the same worker", func(s *stage) {
			near, far := net.Pipe()
			done := make(chan struct{})
			go func() { defer close(done); _ = s.hub.Serve(context.Background(), "n", far) }()
			go func() { <-done; _ = near.Close() }()
			frame, _ := protocol.Append(nil, &protocol.Hello{Version: 1, Node: "n", Incarnation: 7})
			_, _ = near.Write(frame)
			_, _ = protocol.NewReader(near).Next()
			go func() { <-time.After(time.Second); _ = near.Close() }()
		}, protocol.RefuseProtocol},
		{"it falls behind", func(s *stage) {
			changes := make([]fsm.Change, maxPending+1)
			for i := range changes {
				changes[i] = fsm.Change{Kind: fsm.ChangeNode, Node: "n"}
			}
			s.hub.Notify(changes)
		}, protocol.RefuseBusy},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				s.begin()
				c.do(s)
				s.refused(c.want)
				<-time.After(2 * time.Second)
			})
		})
	}
}

// guards P10: a worker that reads nothing cannot hold a session that is over.
func TestDeafWorker(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.begin()
		s.hub.Notify([]fsm.Change{{Kind: fsm.ChangeRevoked, Task: 1, Attempt: 1, Node: "n"}})
		synctest.Wait() // its writer is stuck now
		s.depose()
		err := <-s.served
		s.served <- err // for onStage
	})
}
