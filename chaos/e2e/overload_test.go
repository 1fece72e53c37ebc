package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// Ten times what the queue holds: the rest is refused with a time to come
// back, the leader stays, and what was accepted is all there.
//
// guards P1 P10
func TestTenTimesTheQueue(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	const bound = 100
	c := start(t, ctx, cluster.Options{Config: fmt.Sprintf("queue_bound: %d\n", bound)})
	lead, _ := leader(t, ctx, c)
	before, err := c.Status(ctx, lead)
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	accepted := map[string]bool{}
	refused := 0
	var senders sync.WaitGroup
	for i := range 8 {
		r := dialRaw(t, c, c.Nodes[i%3])
		senders.Go(func() {
			for k := range 10 * bound / 8 {
				a, err := r.do(ctx, http.MethodPost, "/v1/tasks", shell(fmt.Sprintf("flood-%d-%d", i, k), forever))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				switch a.status {
				case http.StatusCreated:
					var task client.Task
					if err := a.into(&task); err != nil {
						t.Error(err)
					}
					accepted[task.ID] = true
				case http.StatusTooManyRequests:
					refused++
					if s, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || s < 1 {
						t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
					}
					if a.problem.Code() != client.CodeQueueFull {
						t.Errorf("refused with %q", a.problem.Code())
					}
				default:
					t.Errorf("status %d: %s", a.status, a.body)
				}
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	if len(accepted) != bound || refused == 0 {
		t.Errorf("%d accepted and %d refused, with room for %d", len(accepted), refused, bound)
	}
	for _, n := range c.Nodes {
		cl := dial(t, c, n)
		seen := 0
		for task, err := range cl.List(ctx, client.ListFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if !accepted[task.ID] {
				t.Errorf("refused, but there: %s", describe(task))
			}
			seen++
		}
		if seen != len(accepted) {
			t.Errorf("node %s lists %d tasks, %d were accepted", n.Addr, seen, len(accepted))
		}
	}
	after, err := c.Status(ctx, lead)
	if err != nil {
		t.Fatal(err)
	}
	if !lead.Alive() || after.Leader != before.Leader || after.Term != before.Term {
		t.Errorf("the flood moved the leadership from %.8s, term %d, to %.8s, term %d", before.Leader, before.Term, after.Leader, after.Term)
	}

	// Room for one is room for one.
	cl := dial(t, c)
	for id := range accepted {
		if _, err := cl.Cancel(ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
		break
	}
	if _, err := cl.Submit(ctx, shell("fits", forever)); err != nil {
		t.Error(err)
	}
	r := dialRaw(t, c, lead)
	if a, err := r.do(ctx, http.MethodPost, "/v1/tasks", shell("does-not", forever)); err != nil || a.status != http.StatusTooManyRequests {
		t.Errorf("one too many: %v, %v", a, err)
	}
	cancelAll(t, ctx, cl)
}

// cancelAll ends what still waits or runs, so that the nodes stop at once.
func cancelAll(t *testing.T, ctx context.Context, cl *client.Client) {
	t.Helper()
	for task, err := range cl.List(ctx, client.ListFilter{States: []string{"queued", "running"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Cancel(ctx, task.ID); err != nil && !client.IsConflict(err) {
			t.Error(err)
		}
	}
}
