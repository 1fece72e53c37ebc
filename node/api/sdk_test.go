package api

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"holdfast/client"
	"holdfast/fsm"
)

// The SDK and the server agree on every route.
func TestWithSDK(t *testing.T) {
	h := newHarness(t, nil)
	ctx := t.Context()
	c, err := client.New(client.Config{UnixSocket: h.unixSocket(), Token: "ann:admin"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	task, err := c.Submit(ctx, client.TaskSpec{Command: []string{"echo", "hi"}, Name: "one"})
	if err != nil || task.ID != "t1" {
		t.Fatalf("%+v %v", task, err)
	}
	batch, err := c.SubmitBatch(ctx, []client.TaskSpec{{Command: []string{"a"}}, {Command: []string{"b"}}})
	if err != nil || fmt.Sprint(batch.IDs) != "[t2 t3]" {
		t.Fatalf("%+v %v", batch, err)
	}
	specs := make(chan client.TaskSpec)
	go func() {
		defer close(specs)
		for i := range 500 {
			spec := client.TaskSpec{Command: []string{"echo"}}
			if i == 7 {
				spec.Command = nil
			}
			specs <- spec
		}
	}()
	answers := map[int]bool{}
	for a, err := range c.SubmitStream(ctx, specs) {
		if err != nil {
			t.Fatal(err)
		}
		if answers[a.Line] || (a.Problem != nil) != (a.Line == 8) {
			t.Fatalf("%+v", a)
		}
		answers[a.Line] = true
	}
	if len(answers) != 500 || h.backend.state.Counts().Accepted != 502 {
		t.Errorf("%d answers, %d tasks", len(answers), h.backend.state.Counts().Accepted)
	}
	if got, err := c.Get(ctx, "t1", client.Stale(0)); err != nil || got.Spec == nil {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.Get(ctx, "t9999"); !client.IsNotFound(err) {
		t.Errorf("get of an unknown task: %v", err)
	}
	if got, err := c.Cancel(ctx, "t2"); err != nil || got.State != "cancelled" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.Cancel(ctx, "t2"); !client.IsConflict(err) {
		t.Errorf("second cancel: %v", err)
	}
	h.backend.run(t, fsm.TaskID(1), fsm.AttemptResult{Reason: fsm.EndExit})
	if got, err := c.Wait(ctx, "t1"); err != nil || got.State != "succeeded" {
		t.Errorf("%+v %v", got, err)
	}
	out, err := c.Output(ctx, "t1", client.OutputOptions{Offset: 2})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(out); err != nil || string(b) != "23456789" {
		t.Errorf("%q %v", b, err)
	}
	out.Close()
	if l, err := c.Nodes(ctx); err != nil || len(l.Nodes) != 1 {
		t.Errorf("%+v %v", l, err)
	}
	if n, err := c.Drain(ctx, "n1", true); err != nil || n.State != "draining" {
		t.Errorf("%+v %v", n, err)
	}
	if s, err := c.Cluster(ctx); err != nil || s.ClusterID != "c1" {
		t.Errorf("%+v %v", s, err)
	}
	if err := c.Transfer(ctx); !client.IsConflict(err) {
		t.Errorf("transfer: %v", err)
	}
	tok, err := c.CreateToken(ctx, client.TokenRequest{Role: "viewer"})
	if err != nil || tok.Secret == "" {
		t.Errorf("%+v %v", tok, err)
	}
	if l, err := c.Tokens(ctx); err != nil || len(l.Tokens) != 1 {
		t.Errorf("%+v %v", l, err)
	}
	if err := c.RevokeToken(ctx, tok.ID); err != nil {
		t.Error(err)
	}
	var snapshot bytes.Buffer
	if _, err := c.SnapshotSave(ctx, &snapshot); err != nil || snapshot.String() != "snapshot bytes" {
		t.Errorf("%q %v", &snapshot, err)
	}
	if err := c.SnapshotRestore(ctx, strings.NewReader("portable")); err != nil {
		t.Error(err)
	}
	if err := c.RemoveNode(ctx, "n1"); err != nil {
		t.Error(err)
	}
}
