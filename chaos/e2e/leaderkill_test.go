package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// guards P1 P2 P5
func TestLeaderKilledUnderSubmissions(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	lead, others := leader(t, ctx, c)

	// Tasks that run on the nodes that live on must not notice.
	cl := dial(t, c, others...)
	var bystanders []string
	for _, n := range others {
		bystanders = append(bystanders, runOn(t, ctx, cl, c, n, shell("bystander", forever)).ID)
	}

	s := newStream(ctx, t, c, 300)
	s.await(t, ctx, 60)
	kill(t, lead)
	acknowledged := s.finish(t)

	next, _ := leader(t, ctx, c)
	if next == lead {
		t.Fatal("the dead node leads")
	}
	checkEach(t, ctx, cl, acknowledged)
	for _, id := range bystanders {
		undisturbed(t, ctx, cl, id)
	}
	restart(t, ctx, c, lead)
	checkEach(t, ctx, dial(t, c, lead), acknowledged)
}

// stream submits numbered tasks through every node, each waiting for its
// acknowledgement, until all are through.
type stream struct {
	wg       sync.WaitGroup
	progress chan struct{} // one per acknowledgement

	mu  sync.Mutex
	ids map[string]string // name to ID
	err error
}

func newStream(ctx context.Context, t *testing.T, c *cluster.Cluster, total int) *stream {
	t.Helper()
	s := &stream{progress: make(chan struct{}, total), ids: map[string]string{}}
	for i, n := range c.Nodes {
		// Each has the other nodes to fall back on.
		order := append([]*cluster.Node{n}, c.Nodes...)
		cl := dial(t, c, order...)
		s.wg.Go(func() {
			for k := i; k < total; k += len(c.Nodes) {
				name := fmt.Sprintf("%s-%d", t.Name(), k)
				task, err := cl.Submit(ctx, shell(name, "echo "+name))
				s.mu.Lock()
				if err != nil {
					s.err = fmt.Errorf("submit %s: %w", name, err)
					s.mu.Unlock()
					return
				}
				s.ids[name] = task.ID
				s.mu.Unlock()
				s.progress <- struct{}{}
			}
		})
	}
	return s
}

// await returns once so many more submissions are acknowledged.
func (s *stream) await(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	for range n {
		select {
		case <-s.progress:
		case <-ctx.Done():
			t.Fatalf("wait for acknowledgements: %v", ctx.Err())
		}
	}
}

// finish returns the acknowledged tasks: all that were asked for.
func (s *stream) finish(t *testing.T) map[string]string {
	t.Helper()
	s.wg.Wait()
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.ids
}

// checkEach waits until every acknowledged task has succeeded with its own
// output, and finds each of them exactly once in the whole list.
func checkEach(t *testing.T, ctx context.Context, cl *client.Client, acknowledged map[string]string) {
	t.Helper()
	for name, id := range acknowledged {
		task := wait(t, ctx, cl, id, "succeeded")
		if task.Name != name || task.Result.Tail != name+"\n" {
			t.Errorf("want %s, but %s", name, describe(task))
		}
	}
	seen := map[string]int{}
	for task, err := range cl.List(ctx, client.ListFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[task.Name]++
	}
	for name := range acknowledged {
		if seen[name] != 1 {
			t.Errorf("%s was submitted once and is there %d times", name, seen[name])
		}
	}
}
