package fsm

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a node runs without is in its registration and in each result, also
// after a snapshot; who has nothing to say writes what was written before.
//
// guards P11
func TestGoldenWeaker(t *testing.T) {
	weaker := []string{"landlock", "time_namespace"}
	bodies := goldenBodies(t)
	register, report := *bodies[CmdRegisterNode].(*RegisterNode), *bodies[CmdReport].(*Report)
	register.Node.Weaker = weaker
	report.Reports[0].Result.Weaker = weaker
	for kind, body := range map[CommandType]any{CmdRegisterNode: &register, CmdReport: &report} {
		b, err := NewCommand(kind, RequestID{0xaa, 1}, "alice", body)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-"+kind.String()+"-weaker", b)
	}
	encoded, err := Marshal(report.Reports[0].Result)
	if err != nil {
		t.Fatal(err)
	}
	if got := appendAttemptResult(nil, &report.Reports[0].Result); !bytes.Equal(got, encoded) {
		t.Errorf("% x, the library writes % x", got, encoded)
	}

	r := newRig(t, Limits{})
	r.node("n1", func(n *Node) { n.Weaker = weaker })
	id := r.submit(Shape{})
	r.assign(id, 1, "n1")
	r.report(id, 1, "n1", AttemptResult{Reason: EndExit, Weaker: weaker})
	golden(t, "snapshot-weaker", write(t, r.s))
	s := New(Limits{})
	if err := s.Restore(bytes.NewReader(undump(t, "testdata/v1/snapshot-weaker.golden"))); err != nil {
		t.Fatal(err)
	}
	n, _ := s.Node("n1")
	v, ok := s.Task(id)
	if !ok || v.Result == nil {
		t.Fatalf("the task is gone: %+v", v)
	}
	if diff := cmp.Diff([][]string{weaker, weaker}, [][]string{n.Weaker, v.Result.Weaker}); diff != "" {
		t.Error(diff)
	}
}
