package fsm

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// churn is a random batch over many tasks: submissions, assignments, ends,
// cancels and ticks, so that records appear, change and are forgotten.
func churn(rt *rapid.T, r *rig) {
	r.now += int64(rapid.IntRange(0, 3).Draw(rt, "seconds")) * second
	last := int(r.s.Counts().Accepted)
	pick := func() TaskID { return TaskID(rapid.IntRange(1, max(1, last)).Draw(rt, "task")) }
	var cmds [][]byte
	for range rapid.IntRange(1, 4).Draw(rt, "commands") {
		id := pick()
		attempt := uint32(1)
		if v, ok := r.s.Task(id); ok {
			attempt = v.Attempt + 1
		}
		var rid RequestID
		rid[0] = byte(rapid.IntRange(0, 40).Draw(rt, "request"))
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0, 1:
			sub := Submit{}
			for range rapid.IntRange(1, 100).Draw(rt, "count") {
				sub.Tasks = append(sub.Tasks, Submission{Shape: shapes[len(sub.Tasks)%len(shapes)], Spec: spec(rt, "churn")})
			}
			cmds = append(cmds, cmd(rt, CmdSubmit, rid, sub))
		case 2:
			as := Assign{}
			for i := range TaskID(5) {
				as.Assignments = append(as.Assignments, Assignment{id + i, attempt, "n1"})
			}
			cmds = append(cmds, cmd(rt, CmdAssign, rid, as))
		case 3:
			rs := Report{Node: "n1", Incarnation: 1}
			for i := range TaskID(5) {
				rs.Reports = append(rs.Reports, AttemptReport{id + i, max(1, attempt-1), AttemptResult{Reason: EndExit, Tail: []byte("done")}})
			}
			cmds = append(cmds, cmd(rt, CmdReport, rid, rs))
		case 4:
			var ids []TaskID
			for i := range TaskID(rapid.IntRange(1, 150).Draw(rt, "cancels")) {
				ids = append(ids, id+i)
			}
			cmds = append(cmds, cmd(rt, CmdCancel, rid, Cancel{Tasks: ids}))
		case 5:
			cmds = append(cmds, cmd(rt, CmdTick, rid, nil))
		}
	}
	r.batch(cmds...)
}

// A snapshot that is written while batches are applied equals the state at the
// index at which it was taken, byte for byte. The batches run in the writer's
// own steps, so that every interleaving can be found and shrunk.
// guards P9
func TestSnapshotIsOfOneIndex(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(rt, Limits{FinishedKept: 60, RequestIDsKept: 20})
		r.node("n1", func(n *Node) { n.CPUMillis, n.MemoryBytes = 100_000, 100<<30 })
		grow := Submit{}
		for i := range 300 {
			grow.Tasks = append(grow.Tasks, Submission{Shape: shapes[i%len(shapes)], Spec: spec(rt, "grow")})
		}
		r.ok(CmdSubmit, grow)
		for range rapid.IntRange(0, 5).Draw(rt, "before") {
			churn(rt, r)
		}
		type taken struct {
			snap *Snapshot
			want []byte
			hash [32]byte
		}
		var open []taken
		for range rapid.IntRange(1, 3).Draw(rt, "snapshots") {
			open = append(open, taken{snap: r.s.Snapshot(), want: write(rt, r.s), hash: r.s.Hash()})
			for range rapid.IntRange(0, 3).Draw(rt, "between") {
				churn(rt, r)
			}
		}
		for _, o := range open {
			var buf bytes.Buffer
			f := newFrameWriter(&buf, kindFull)
			o.snap.records(f, false, func() {
				for range rapid.IntRange(0, 2).Draw(rt, "during") {
					churn(rt, r)
				}
			}, func() {})
			sum, err := f.close()
			if err != nil || sum != o.hash {
				rt.Fatalf("hash %x, want %x, %v", sum, o.hash, err)
			}
			if !bytes.Equal(buf.Bytes(), o.want) {
				rt.Fatal("the snapshot differs from the one that was written at once")
			}
			churn(rt, r)
			if len(o.snap.saved) != 0 {
				rt.Fatal("a snapshot that is written keeps old values")
			}
			o.snap.Release()
		}
		if len(r.s.m.snaps) != 0 {
			rt.Fatal("a released snapshot is still kept up")
		}
		replay(rt, r, len(r.log)/2)
	})
}

// The same with a real writer beside Apply, for the race detector.
func TestSnapshotBesideApply(t *testing.T) {
	r := newRig(t, Limits{FinishedKept: 1000})
	r.node("n1", func(n *Node) { n.CPUMillis, n.MemoryBytes = 1_000_000, 1<<40 })
	submit := submitBatch(t, 1000, Shape{CPUMillis: 1, RetryLimit: 1})
	for range 20 {
		r.index++
		if _, err := r.s.Apply(r.index, submit); err != nil {
			t.Fatal(err)
		}
	}
	want := write(t, r.s)
	snap := r.s.Snapshot()
	var buf bytes.Buffer
	done := make(chan error)
	go func() {
		_, err := snap.WriteTo(&buf)
		done <- err
	}()
	var err error
	for id, running := TaskID(1), true; running; id = id%20_000 + 1 {
		select {
		case err = <-done:
			running = false
		default:
			if v, ok := r.s.Task(id); ok && v.State == Queued {
				r.assign(id, v.Attempt+1, "n1")
				r.do(CmdCancel, Cancel{Tasks: []TaskID{id, id + 7}})
				r.report(id, v.Attempt+1, "n1", AttemptResult{Reason: EndExit})
			}
			r.s.PlanView(10, 10)
		}
	}
	if err != nil || !bytes.Equal(buf.Bytes(), want) {
		t.Fatalf("the snapshot differs from the one written before, or failed: %v", err)
	}
	snap.Release()
}

func TestSnapshotIsUsedOnce(t *testing.T) {
	s := New(Limits{})
	snap := s.Snapshot()
	if _, err := snap.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := snap.WriteTo(io.Discard); !errors.Is(err, ErrSnapshotUsed) {
		t.Fatalf("second write: %v", err)
	}
	for range MaxSnapshots - 1 {
		defer s.Snapshot().Release()
	}
	extra := s.Snapshot()
	if _, err := extra.WriteTo(io.Discard); !errors.Is(err, ErrTooManySnapshots) {
		t.Fatalf("one too many: %v", err)
	}
	extra.Release()
	snap.Release()
	snap.Release()
	again := s.Snapshot()
	defer again.Release()
	if _, err := again.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestSnapshotReportsWriteErrors(t *testing.T) {
	s := fill(t, 2000, shapes[0])
	snap := s.Snapshot()
	defer snap.Release()
	if _, err := snap.WriteTo(&failingWriter{100 << 10}); !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("%v", err)
	}
}

// Whatever byte is wrong, the restore fails and the state stays as it was.
func TestRestoreFindsCorruption(t *testing.T) {
	r := scene(t)
	good := write(t, r.s)
	target := New(Limits{})
	if err := target.Restore(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	want := target.Hash()
	for i := range good {
		for _, flip := range []byte{1, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if err := target.Restore(bytes.NewReader(bad)); err == nil {
				t.Fatalf("byte %d of %d flipped, and restored", i, len(good))
			}
		}
		if err := target.Restore(bytes.NewReader(good[:i])); err == nil {
			t.Fatalf("restored the first %d of %d bytes", i, len(good))
		}
	}
	if err := target.Restore(bytes.NewReader(append(bytes.Clone(good), 0))); err == nil {
		t.Fatal("restored with a byte too many")
	}
	if target.Hash() != want {
		t.Fatal("a failed restore changed the state")
	}
}

func TestRestoreNamesThePlace(t *testing.T) {
	r := scene(t)
	good := write(t, r.s)
	mark := bytes.Index(good, []byte("scene-task"))
	bad := bytes.Clone(good)
	bad[mark] = 0xff // not UTF-8: specs are only walked over, so the checksum finds it
	err := New(Limits{}).Restore(bytes.NewReader(bad))
	if err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Fatalf("%v", err)
	}
	mark = bytes.Index(good, []byte("alice"))
	bad = bytes.Clone(good)
	bad[mark] = 0xff
	err = New(Limits{}).Restore(bytes.NewReader(bad))
	if err == nil || !strings.Contains(err.Error(), "section tasks, record 1") {
		t.Fatalf("%v", err)
	}
	for at, want := range map[int]string{0: "not a snapshot", 7: "snapshot format", 8: "snapshot kind"} {
		bad = bytes.Clone(good)
		bad[at] = 'Z'
		if err := New(Limits{}).Restore(bytes.NewReader(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("byte %d: %v, want %q", at, err, want)
		}
	}
}

// scene is a small state with something of every kind in it.
func scene(t tester) *rig {
	r := newRig(t, Limits{})
	r.node("n1", func(n *Node) { n.Labels, n.Abilities = []Label{{"zone", "a"}}, []string{"kvm"} })
	r.node("n2", nil)
	r.node("n3", nil)
	r.ok(CmdCreateToken, CreateToken{ID: "api", Name: "ops", Role: RoleOperator, Hash: [32]byte{9}, Expires: r.now + 1000*second})
	var sub Submit
	for i := range 8 {
		s := shapes[i%len(shapes)]
		s.RunTimeout = time.Minute
		sub.Tasks = append(sub.Tasks, Submission{Shape: s, Spec: spec(t, "scene-task")})
	}
	r.batch(cmd(t, CmdSubmit, RequestID{7}, sub))
	r.assign(1, 1, "n1")
	r.report(1, 1, "n1", AttemptResult{Reason: EndExit, CPUTime: time.Second, MemoryPeakBytes: 1 << 20, Tail: []byte("out"), StdoutBytes: 3})
	r.assign(2, 1, "n1")
	r.report(2, 1, "n1", AttemptResult{Reason: EndSignal, Signal: "SIGSEGV", ExitCode: -1, Message: "crashed"})
	r.assign(3, 1, "n2")
	r.ok(CmdCancel, Cancel{Tasks: []TaskID{3, 8}})
	r.assign(4, 1, "n1")
	r.assign(6, 1, "n3")
	r.ok(CmdRemoveNode, RemoveNode{Node: "n3"})
	r.ok(CmdDrainNode, DrainNode{Node: "n2", Drain: true})
	r.now += second
	r.ok(CmdTick, nil)
	return r
}
