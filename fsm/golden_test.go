package fsm

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of the current format version")

// goldenVersion is part of the files' names. Files of older versions stay, and
// must always decode.
const goldenVersion = "v1"

var fullShape = Shape{
	Priority: 70, CPUMillis: 1500, MemoryBytes: 1 << 30,
	Constraints: []Constraint{{"zone", In, []string{"a", "b"}}, {"gpu", NotExists, nil}},
	Abilities:   []string{"cgroup2"}, Placement: Pack,
	QueueTimeout: time.Hour, RunTimeout: time.Minute, RetryLimit: 3, RetryBackoff: time.Second,
	OnLost: OnLostFail, Labels: []Label{{"app", "web"}, {"team", "x"}},
}

// goldenBodies has one body per command type, with every field set.
func goldenBodies(t testing.TB) map[CommandType]any {
	encoded, err := Marshal(Spec{
		Name: "build", Command: []string{"/bin/make", "all"}, Env: []string{"A=1"}, WorkDir: "/src", Stdin: []byte("in"),
		Mounts: []Mount{{"/src", "/src", true}}, PIDs: 64, OutputLimitBytes: 1 << 20, KillGrace: time.Second, Shape: fullShape,
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[CommandType]any{
		CmdSubmit: &Submit{[]Submission{{fullShape, encoded}, {Shape{}, encoded}}},
		CmdCancel: &Cancel{[]TaskID{1, 300}},
		CmdAssign: &Assign{[]Assignment{{7, 2, "n1"}, {70000, 1, "n2"}}},
		CmdReport: &Report{"n1", 1 << 40, []AttemptReport{{7, 2, AttemptResult{
			Reason: EndSignal, ExitCode: -1, Signal: "SIGKILL", Message: "over the limit", CPUTime: time.Second, MemoryPeakBytes: 1 << 30,
			WallTime: 2 * time.Second, Tail: []byte("tail\x00"), StdoutBytes: 5, StderrBytes: 6, Truncated: true,
		}}}},
		CmdTick: nil,
		CmdRegisterNode: &RegisterNode{Node{
			ID: "n1", Name: "host-1", Addr: "10.0.0.1:7000", Version: "0.1.0", CPUMillis: 8000, MemoryBytes: 16 << 30,
			Labels: []Label{{"zone", "a"}}, Abilities: []string{"cgroup2"}, Incarnation: 99, FeatureLevel: 1,
		}},
		CmdExpireWorker:    &ExpireWorker{"n1", 99},
		CmdDrainNode:       &DrainNode{"n1", true},
		CmdRemoveNode:      &RemoveNode{"n1"},
		CmdCreateToken:     &CreateToken{"tok", "ci", RoleNode, [32]byte{1, 2, 3}, 1 << 60, 5},
		CmdRevokeToken:     &RevokeToken{"tok"},
		CmdAdmitNode:       &AdmitNode{"tok", [32]byte{1, 2, 3}, "n2"},
		CmdInitCluster:     &InitCluster{"c1", []byte{1}, []byte{2}, "n1", Settings{10, 20, 30}},
		CmdSetFeatureLevel: &SetFeatureLevel{1},
	}
}

// golden compares with a file, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", goldenVersion, name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), hex.Dump(got)); diff != "" {
		t.Errorf("%s: the encoding changed; old files must stay readable:\n%s", name, diff)
	}
}

// undump reads what hex.Dump wrote.
func undump(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for line := range strings.Lines(string(text)) {
		if len(line) < 60 {
			continue // the last line is the length
		}
		raw, err := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		b = append(b, raw...)
	}
	return b
}

// guards P11
func TestGoldenCommands(t *testing.T) {
	for kind, body := range goldenBodies(t) {
		b, err := NewCommand(kind, RequestID{0xaa, 1}, "alice", body)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-"+kind.String(), b)
	}
	if got, want := len(goldenBodies(t)), len(commandDefs)-1; got != want {
		t.Errorf("%d of %d command types have a golden file", got, want)
	}
}

// What came after the first golden files has files of its own.
// guards P11
func TestGoldenLimits(t *testing.T) {
	spec, err := Marshal(Spec{
		Command: []string{"a"}, CPUTimeLimit: time.Second, OnOutputLimit: OutputEnd, Scratch: &Scratch{"/s", 1 << 20, 64},
	})
	if err != nil {
		t.Fatal(err)
	}
	report := &Report{"n1", 1, []AttemptReport{{7, 2, AttemptResult{Reason: EndDiskLimit, ExitCode: 1, NotEnforced: []string{"swap", "io"}}}}}
	for kind, body := range map[CommandType]any{CmdSubmit: &Submit{[]Submission{{Shape{}, spec}}}, CmdReport: report} {
		b, err := NewCommand(kind, RequestID{0xaa, 1}, "alice", body)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-"+kind.String()+"-limits", b)
	}
	raw, err := Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	_, _, got, err := decodeReport(raw, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report.Reports, got); diff != "" {
		t.Error(diff)
	}
	want, err := Marshal(got[0].Result)
	if err != nil || !bytes.Equal(appendAttemptResult(nil, &got[0].Result), want) {
		t.Errorf("the library writes % x, %v", want, err)
	}
}

// guards P11
func TestGoldenGrants(t *testing.T) {
	for name, s := range map[string]Spec{
		"grants": {Command: []string{"a"}, Secrets: []Secret{{"k", []byte{0, 255}}}, Network: NetworkNone},
		"io":     {Command: []string{"a"}, IO: &IOLimits{50, 1 << 20, 1 << 21}},
	} {
		spec, err := Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		b, err := NewCommand(CmdSubmit, RequestID{0xaa, 1}, "alice", &Submit{[]Submission{{Shape{}, spec}}})
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "command-submit-"+name, b)
	}
}

// Golden commands of every version decode to what they were made of.
// guards P11
func TestGoldenCommandsDecode(t *testing.T) {
	files, _ := filepath.Glob("testdata/v*/command-*.golden")
	if len(files) < len(commandDefs)-1 {
		t.Fatalf("found %d golden commands", len(files))
	}
	for _, path := range files {
		b := undump(t, path)
		if err := Check(b); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		e, err := decodeEnvelope(b)
		if err != nil || string(e.principal) != "alice" || e.requestID != (RequestID{0xaa, 1}) {
			t.Errorf("%s: %+v %v", path, e, err)
		}
	}
}

// The strict reader and the library agree on the hot bodies.
func TestHotDecodersAgreeWithTheLibrary(t *testing.T) {
	bodies := goldenBodies(t)
	encode := func(v any) []byte {
		b, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	report := bodies[CmdReport].(*Report)
	nodeID, incarnation, reports, err := decodeReport(encode(report), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, &Report{NodeID(nodeID), incarnation, reports}); diff != "" {
		t.Error(diff)
	}
	result := report.Reports[0].Result
	if got := appendAttemptResult(nil, &result); !bytes.Equal(got, encode(result)) {
		t.Errorf("result: % x, the library writes % x", got, encode(result))
	}
	assign := bodies[CmdAssign].(*Assign)
	as, err := decodeAssign(encode(assign), nil, func(id []byte) *node { return &node{id: NodeID(id)} })
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range as {
		if (Assignment{a.task, a.attempt, a.node.id}) != assign.Assignments[i] {
			t.Errorf("%+v, want %+v", a, assign.Assignments[i])
		}
	}
	submit := bodies[CmdSubmit].(*Submit)
	subs, err := decodeSubmit(encode(submit), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range subs {
		shape, err := decodeShape(s.encodedShape)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(submit.Tasks[i], Submission{*shape, s.spec}); diff != "" {
			t.Error(diff)
		}
	}
}

// guards P11
func TestGoldenBatch(t *testing.T) {
	tick := cmd(t, CmdTick, RequestID{}, nil)
	golden(t, "batch", EncodeBatch(epoch, [][]byte{tick, cmd(t, CmdCancel, RequestID{1}, Cancel{[]TaskID{5}})}))
	files, _ := filepath.Glob("testdata/v*/batch.golden")
	for _, path := range files {
		at, cmds, err := splitBatch(undump(t, path), nil)
		if err != nil || at != epoch || len(cmds) != 2 || !bytes.Equal(cmds[0], tick) {
			t.Errorf("%s: %d %d %v", path, at, len(cmds), err)
		}
	}
}

// guards P9, P11
func TestGoldenSnapshots(t *testing.T) {
	r := scene(t)
	golden(t, "snapshot-full", write(t, r.s))
	snap := r.s.Snapshot()
	defer snap.Release()
	var buf bytes.Buffer
	if _, err := snap.WritePortable(&buf); err != nil {
		t.Fatal(err)
	}
	golden(t, "snapshot-portable", buf.Bytes())
	hash := r.s.Hash()
	golden(t, "snapshot-hash", hash[:])
	files, _ := filepath.Glob("testdata/v*/snapshot-full.golden")
	if len(files) == 0 {
		t.Fatal("no golden snapshot")
	}
	for _, path := range files {
		s := New(Limits{})
		if err := s.Restore(bytes.NewReader(undump(t, path))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	old, _ := filepath.Glob("testdata/v*/snapshot-portable.golden")
	for _, path := range old {
		if err := r.s.MergePortable(bytes.NewReader(undump(t, path)), &bytes.Buffer{}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}
