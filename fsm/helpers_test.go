package fsm

import (
	"time"
)

// bench is a state with a log, for tests.
type rig struct {
	t     tester
	s     *State
	index uint64
	now   int64
	log   [][]byte // batches, entry i has index i+1
}

const (
	second = int64(time.Second)
	epoch  = 1_700_000_000 * second
)

func newRig(t tester, limits Limits) *rig {
	return &rig{t: t, s: New(limits), now: epoch}
}

func cmd(t tester, kind CommandType, id RequestID, body any) []byte {
	t.Helper()
	b, err := NewCommand(kind, id, "alice", body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// batch applies commands as one entry.
func (r *rig) batch(cmds ...[]byte) Applied {
	r.t.Helper()
	r.index++
	b := EncodeBatch(r.now, cmds)
	r.log = append(r.log, b)
	a, err := r.s.Apply(r.index, b)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

// do applies one command and returns its result.
func (r *rig) do(kind CommandType, body any) Result {
	r.t.Helper()
	return r.batch(cmd(r.t, kind, RequestID{}, body)).Results[0]
}

// ok applies one command that must succeed.
func (r *rig) ok(kind CommandType, body any) Result {
	r.t.Helper()
	res := r.do(kind, body)
	if res.Code != OK {
		r.t.Fatalf("%s: %s: %s", kind, res.Code, res.Detail)
	}
	return res
}

func (r *rig) task(id TaskID) *TaskView {
	r.t.Helper()
	v, ok := r.s.Task(id)
	if !ok {
		r.t.Fatalf("task %s is gone", id)
	}
	return v
}

func spec(t tester, name string) []byte {
	t.Helper()
	b, err := Marshal(Spec{Name: name, Command: []string{"/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// submit queues one task of the shape.
func (r *rig) submit(s Shape) TaskID {
	r.t.Helper()
	return r.ok(CmdSubmit, Submit{Tasks: []Submission{{Shape: s, Spec: spec(r.t, "job")}}}).First
}

// node admits (as the first node of a new cluster, or by a token) and
// registers a worker with 4 CPUs and 4 GiB.
func (r *rig) node(id NodeID, change func(*Node)) {
	r.t.Helper()
	if _, ok := r.s.Cluster(); !ok {
		r.ok(CmdInitCluster, InitCluster{ClusterID: "c1", CACert: []byte{1}, CAKey: []byte{2}, First: id})
		r.ok(CmdCreateToken, CreateToken{ID: "join", Role: RoleNode, Hash: [32]byte{1}})
	} else if n, ok := r.s.Node(id); !ok || !n.Admitted {
		r.ok(CmdAdmitNode, AdmitNode{TokenID: "join", Hash: [32]byte{1}, Node: id})
	}
	n := Node{ID: id, Addr: "127.0.0.1:1", CPUMillis: 4000, MemoryBytes: 4 << 30, Incarnation: 1}
	if change != nil {
		change(&n)
	}
	r.ok(CmdRegisterNode, RegisterNode{Node: n})
}

func (r *rig) assign(id TaskID, attempt uint32, n NodeID) bool {
	r.t.Helper()
	return r.ok(CmdAssign, Assign{Assignments: []Assignment{{Task: id, Attempt: attempt, Node: n}}}).Count == 1
}

func (r *rig) report(id TaskID, attempt uint32, n NodeID, res AttemptResult) bool {
	r.t.Helper()
	return r.ok(CmdReport, Report{Node: n, Incarnation: 1, Reports: []AttemptReport{{Task: id, Attempt: attempt, Result: res}}}).Count == 1
}

// tester is the part of testing.TB that rapid.T has too.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
