package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// guards P4
func TestEveryNodeAnswersEverything(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	clients := make([]*client.Client, len(c.Nodes))
	for i, n := range c.Nodes {
		clients[i] = dial(t, c, n)
	}

	t.Run("a write is read at once at any node", func(t *testing.T) {
		for i := range 30 {
			task := submit(t, ctx, clients[i%3], shell(fmt.Sprintf("seen-%d", i), "true"))
			for k, cl := range clients {
				got, err := cl.Get(ctx, task.ID)
				if err != nil || got.Name != task.Name {
					t.Fatalf("written at node %d, read at node %d: %v, %v", i%3+1, k+1, got, err)
				}
			}
		}
	})

	t.Run("output is followed through nodes that do not run it", func(t *testing.T) {
		const script = `i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; echo oops >&2`
		task := runOn(t, ctx, clients[0], c, c.Nodes[0], shell("talks", script))
		var want strings.Builder
		for i := range 40 {
			fmt.Fprintf(&want, "line %d\n", i)
		}
		var followers sync.WaitGroup
		for i, cl := range clients {
			followers.Go(func() {
				got, err := readOutput(ctx, cl, task.ID, client.OutputOptions{Follow: true})
				if err != nil || got != want.String() {
					t.Errorf("followed through node %d: %v\n%q", i+1, err, got)
				}
			})
		}
		followers.Wait()
		for i, cl := range clients {
			wait(t, ctx, cl, task.ID, "succeeded")
			if got, err := readOutput(ctx, cl, task.ID, client.OutputOptions{Stream: "stderr"}); err != nil || got != "oops\n" {
				t.Errorf("standard error through node %d: %v %q", i+1, err, got)
			}
			if got, err := readOutput(ctx, cl, task.ID, client.OutputOptions{Offset: 7}); err != nil || got != want.String()[7:] {
				t.Errorf("from byte 7 through node %d: %v %q", i+1, err, got)
			}
		}
	})

	t.Run("a stale read with min_index knows the write", func(t *testing.T) {
		for i := range 20 {
			task := submit(t, ctx, clients[i%3], shell("indexed", "true"))
			got, err := clients[(i+1)%3].Get(ctx, task.ID, client.Stale(time.Minute), client.MinIndex(task.Index))
			if err != nil || got.Index < task.Index {
				t.Fatalf("written at index %d, read %v, %v", task.Index, got, err)
			}
		}
	})

	t.Run("a request at two nodes at once takes effect once", func(t *testing.T) {
		for i := range 25 {
			key := fmt.Sprintf("twice-%d", i)
			ids := make([]string, 2)
			var senders sync.WaitGroup
			for k := range ids {
				senders.Go(func() {
					task, err := clients[(i+k)%3].Submit(ctx, shell(key, "true"), client.IdempotencyKey(key))
					if err != nil {
						t.Errorf("%s: %v", key, err)
						return
					}
					ids[k] = task.ID
				})
			}
			senders.Wait()
			if ids[0] != ids[1] {
				t.Errorf("%s made the tasks %q", key, ids)
			}
			// And again, when both have been answered.
			again, err := clients[(i+2)%3].Submit(ctx, shell(key, "true"), client.IdempotencyKey(key))
			if err != nil || again.ID != ids[0] {
				t.Errorf("%s sent again: %v, %v", key, again, err)
			}
			if n := count(t, ctx, clients[i%3], client.ListFilter{Name: key}); n != 1 {
				t.Errorf("%s is there %d times", key, n)
			}
		}
	})

	t.Run("an isolated node tells no old story", func(t *testing.T) {
		_, others := leader(t, ctx, c)
		alone := others[0]
		r := dialRaw(t, c, alone)
		for _, n := range c.Nodes {
			if n != alone {
				if err := n.Pause(); err != nil {
					t.Fatal(err)
				}
			}
		}
		until(t, ctx, "a stale read to be refused for its age", func(ctx context.Context) error {
			a, err := r.do(ctx, http.MethodGet, "/v1/tasks?limit=1&consistency=stale&max_age=500ms", nil)
			if err != nil {
				return err
			}
			if a.problem.Code() != client.CodeStaleTooOld || a.header.Get("Retry-After") == "" {
				return fmt.Errorf("status %d %v", a.status, a.header)
			}
			return nil
		})
		a, err := r.do(ctx, http.MethodGet, "/v1/tasks?limit=1&consistency=stale", nil)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("a stale read of any age: %v, %v", a, err)
		}
		if age, err := strconv.ParseFloat(a.header.Get("Holdfast-Age"), 64); err != nil || age < 0.5 {
			t.Errorf("the age is %q, %v", a.header.Get("Holdfast-Age"), err)
		}
		a, err = r.do(ctx, http.MethodGet, "/v1/tasks?limit=1", nil)
		if err != nil || a.problem.Code() != client.CodeUnavailable {
			t.Errorf("a linearizable read of an isolated node: %+v, %v", a, err)
		}
		for _, n := range c.Nodes {
			if n != alone {
				if err := n.Resume(); err != nil {
					t.Fatal(err)
				}
			}
		}
		until(t, ctx, "a linearizable read again", func(ctx context.Context) error {
			a, err := r.do(ctx, http.MethodGet, "/v1/tasks?limit=1", nil)
			if err == nil && a.status != http.StatusOK {
				err = errors.New(a.problem.Error())
			}
			return err
		})
	})
}

func readOutput(ctx context.Context, cl *client.Client, id string, o client.OutputOptions) (string, error) {
	r, err := cl.Output(ctx, id, o)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func count(t *testing.T, ctx context.Context, cl *client.Client, f client.ListFilter) int {
	t.Helper()
	n := 0
	for _, err := range cl.List(ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
