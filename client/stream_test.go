package client_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"holdfast/client"
	"holdfast/client/clienttest"
)

func send(ctx context.Context, n int) <-chan client.TaskSpec {
	ch := make(chan client.TaskSpec)
	go func() {
		defer close(ch)
		for i := range n {
			spec := echo(fmt.Sprint(i + 1))
			if i%7 == 3 {
				spec.Command = nil // refused
			}
			select {
			case ch <- spec:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch
}

func TestStreamSurvivesFailures(t *testing.T) {
	// guards P1: every line is answered once and takes effect once.
	const lines = 3000
	for _, name := range []string{"calm", "breaks", "refusals", "unix"} {
		t.Run(name, func(t *testing.T) {
			s := start(t, 3)
			cfg := quick(s.Config())
			switch name {
			case "breaks":
				for i := range 12 {
					s.Inject(clienttest.Fault{Path: "/v1/tasks/stream", Times: 1, AfterBytes: 1000 + 700*i})
				}
			case "refusals":
				s.Inject(clienttest.Fault{Times: 4, Status: 503})
				s.Inject(clienttest.Fault{Times: 1, Status: 429})
			case "unix":
				path := filepath.Join(t.TempDir(), "s")
				if err := s.ListenUnix(path); err != nil {
					t.Fatal(err)
				}
				cfg = quick(client.Config{UnixSocket: path})
			}
			c := connect(t, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			seen := map[int]bool{}
			refused := 0
			for a, err := range c.SubmitStream(ctx, send(ctx, lines)) {
				if err != nil {
					t.Fatal(err)
				}
				if seen[a.Line] {
					t.Fatalf("line %d was answered twice", a.Line)
				}
				seen[a.Line] = true
				if (a.Line-1)%7 == 3 {
					refused++
					if a.Problem == nil || a.Problem.Code() != client.CodeInvalid {
						t.Fatalf("line %d: %+v, want a refusal", a.Line, a)
					}
				} else if a.ID == "" {
					t.Fatalf("line %d has no task", a.Line)
				}
			}
			if len(seen) != lines || s.Tasks() != lines-refused {
				t.Errorf("%d answers and %d tasks, want %d and %d", len(seen), s.Tasks(), lines, lines-refused)
			}
			key := ""
			for _, r := range s.Requests() {
				if key == "" {
					key = r.IdempotencyKey
				}
				if r.IdempotencyKey != key {
					t.Error("a resumed stream has another key")
				}
			}
			if n := len(s.Requests()); name == "breaks" && n != 13 {
				t.Errorf("%d requests, want 13", n)
			}
		})
	}
}

func TestStreamStops(t *testing.T) {
	s := start(t, 1)
	c := connect(t, quick(s.Config()))
	t.Run("by the caller", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for _, err := range c.SubmitStream(ctx, send(ctx, 1000)) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 5 {
				break
			}
		}
	})
	t.Run("by the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		never := make(chan client.TaskSpec, 1)
		never <- echo("x")
		var last error
		for a, err := range c.SubmitStream(ctx, never) {
			if a != nil {
				cancel()
			}
			last = err
		}
		if last == nil {
			t.Error("no error after cancel")
		}
	})
	t.Run("when it is refused", func(t *testing.T) {
		s.Inject(clienttest.Fault{Times: 1, Status: 403})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, err := range c.SubmitStream(ctx, send(ctx, 10)) {
			if !client.IsForbidden(err) {
				t.Errorf("error %v, want forbidden", err)
			}
		}
	})
	t.Run("empty", func(t *testing.T) {
		for a, err := range c.SubmitStream(t.Context(), send(t.Context(), 0)) {
			t.Errorf("%v, %v", a, err)
		}
	})
}

func TestOutputResumes(t *testing.T) {
	s := start(t, 3)
	c := connect(t, quick(s.Config()))
	spec := client.TaskSpec{Command: []string{"serve"}}
	if _, err := c.Submit(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	var want string
	for i := range 200 {
		line := fmt.Sprintf("line %d of the output\n", i)
		want += line
		s.Write("t1", "stdout", line)
	}
	for i := range 4 {
		s.Inject(clienttest.Fault{Path: "/v1/tasks/t1/output", Times: 1, AfterBytes: 100 + 300*i})
	}
	r, err := c.Output(t.Context(), "t1", client.OutputOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	s.Write("t1", "stdout", "end")
	s.Finish("t1", 0)
	rest, err := io.ReadAll(r)
	if string(got)+string(rest) != want+"end" || err != nil {
		t.Errorf("output differs: %d+%d bytes, %v", len(got), len(rest), err)
	}
}

func TestOutputGivesUpAndCloses(t *testing.T) {
	s := start(t, 1)
	c := connect(t, quick(s.Config()))
	if _, err := c.Submit(t.Context(), client.TaskSpec{Command: []string{"serve"}}); err != nil {
		t.Fatal(err)
	}
	r, err := c.Output(t.Context(), "t1", client.OutputOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := io.ReadAll(r); done <- err }()
	r.Close()
	if err := <-done; err == nil {
		t.Error("a read under way ended without an error after Close")
	}
	s.Inject(clienttest.Fault{Path: "/v1/tasks/t1/output", Times: 1000, Status: 503})
	if _, err := c.Output(t.Context(), "t1", client.OutputOptions{}); !client.IsUnavailable(err) {
		t.Errorf("error %v, want unavailable", err)
	}
}
