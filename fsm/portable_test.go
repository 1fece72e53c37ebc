package fsm

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func portable(t *testing.T, s *State) []byte {
	t.Helper()
	snap := s.Snapshot()
	defer snap.Release()
	var buf bytes.Buffer
	if _, err := snap.WritePortable(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// merge gives a portable snapshot to the rig's cluster.
func merge(t *testing.T, r *rig, file []byte) *State {
	t.Helper()
	var full bytes.Buffer
	before := r.s.Hash()
	if err := r.s.MergePortable(bytes.NewReader(file), &full); err != nil {
		t.Fatal(err)
	}
	if r.s.Hash() != before {
		t.Fatal("merging changed the state")
	}
	s := New(Limits{})
	if err := s.Restore(&full); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPortableHasNoIdentity(t *testing.T) {
	r := scene(t)
	file := portable(t, r.s)
	for _, secret := range []string{"c1", "n1", "n3", "join", "127.0.0.1"} {
		if bytes.Contains(file, []byte(secret)) {
			t.Errorf("it holds %q", secret)
		}
	}
	if err := New(Limits{}).Restore(bytes.NewReader(file)); err == nil || !strings.Contains(err.Error(), "portable") {
		t.Errorf("restored as a full snapshot: %v", err)
	}
	if err := r.s.MergePortable(bytes.NewReader(write(t, r.s)), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("merged a full snapshot: %v", err)
	}
	if err := New(Limits{}).MergePortable(bytes.NewReader(file), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "initialised") {
		t.Errorf("merged into nothing: %v", err)
	}
}

// A portable snapshot restored into a new cluster loses no task.
// guards P1
func TestPortableIntoANewCluster(t *testing.T) {
	old := scene(t)
	r := newRig(t, Limits{})
	r.now = old.now - 500*second // the new cluster's clock is behind
	r.ok(CmdInitCluster, InitCluster{ClusterID: "c2", CACert: []byte{3}, CAKey: []byte{4}, First: "m1"})
	r.ok(CmdRegisterNode, RegisterNode{Node{ID: "m1", CPUMillis: 4000, MemoryBytes: 4 << 30, Incarnation: 1}})
	r.ok(CmdCreateToken, CreateToken{ID: "admin", Role: RoleAdmin, Hash: [32]byte{5}})
	s := merge(t, r, portable(t, old.s))
	if c, _ := s.Cluster(); c.ClusterID != "c2" || string(c.CAKey) != "\x04" {
		t.Fatalf("%+v", c)
	}
	if s.Now() != old.s.Now() || s.Index() != r.s.Index() {
		t.Fatalf("time %d, index %d", s.Now(), s.Index())
	}
	for _, want := range old.s.List(Filter{}) {
		got, ok := s.Task(want.ID)
		if !ok {
			t.Fatalf("task %s is lost", want.ID)
		}
		if want.State == Running {
			want.State, want.Node = Queued, ""
		}
		if got.State != want.State || got.Attempt != want.Attempt || !bytes.Equal(got.SpecBytes, want.SpecBytes) || got.Owner != want.Owner ||
			got.Index != r.s.Index() {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if ts := s.Tokens(); len(ts) != 2 || ts[0].ID != "admin" || ts[1].ID != "api" {
		t.Errorf("tokens %+v", ts)
	}
	// It works: the task that was running is assigned again, with the next
	// attempt number.
	next := &rig{t: t, s: s, index: s.Index(), now: s.Now()}
	if !next.assign(4, 2, "m1") || !next.report(4, 2, "m1", AttemptResult{Reason: EndExit}) {
		t.Error("the task that was running cannot run again")
	}
	if id := next.submit(Shape{}); id != 9 {
		t.Errorf("new task %s, want t9", id)
	}
}

// Restored over tasks that are running: their attempts take no effect on
// restored tasks of the same ID, and keep their capacity until reported.
// guards P2, P3
func TestPortableOverRunningTasks(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", func(n *Node) { n.CPUMillis = 1000 })
	for range 2 {
		r.submit(Shape{CPUMillis: 1000, QueueTimeout: time.Hour})
	}
	file := portable(t, r.s) // t1 and t2 queued, never ran
	r.submit(Shape{})
	r.assign(1, 1, "n1")
	s := merge(t, r, file)
	next := &rig{t: t, s: s, index: s.Index(), now: s.Now()}
	if v := next.task(1); v.State != Queued || v.Attempt != 1 || v.RetryAt == 0 {
		t.Fatalf("t1 must wait for the attempt that may run: %+v", v)
	}
	if n, _ := s.Node("n1"); n.UsedCPUMillis != 1000 || n.Superseded != 1 {
		t.Fatalf("%+v", n)
	}
	if next.assign(2, 1, "n1") {
		t.Fatal("assigned beyond the capacity")
	}
	if next.report(1, 1, "n1", AttemptResult{Reason: EndExit}) {
		t.Fatal("the result of a task that was given up took effect on another")
	}
	if !next.assign(1, 2, "n1") {
		t.Fatal("t1 cannot run after the report")
	}
	if id := next.submit(Shape{}); id != 4 {
		t.Fatalf("ID %s was given twice", id)
	}
	if c := s.Counts(); c.Accepted != 3 || c.Queued+c.Running != 3 {
		t.Fatalf("%+v", c)
	}
}

func TestPortableNeedsTheLevel(t *testing.T) {
	r := scene(t)
	r.s.m.cluster.Level = 2
	file := portable(t, r.s)
	err := scene(t).s.MergePortable(bytes.NewReader(file), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "level") {
		t.Fatalf("%v", err)
	}
}

// A worker never starts the number of an attempt again that it has had. The
// attempts that this cluster ended after the snapshot count as well.
// guards P2
func TestPortableDoesNotRewindAttempts(t *testing.T) {
	r := newRig(t, Limits{})
	r.node("n1", nil)
	id := r.submit(Shape{CPUMillis: 100, MemoryBytes: 1 << 20})
	file := portable(t, r.s)
	if !r.assign(id, 1, "n1") || !r.report(id, 1, "n1", AttemptResult{Reason: EndExit}) {
		t.Fatal("the attempt did not run")
	}
	s := merge(t, r, file)
	if v, ok := s.Task(id); !ok || v.State != Queued || v.Attempt != 1 {
		t.Errorf("want it queued after attempt 1: %+v, %v", v, ok)
	}
}
