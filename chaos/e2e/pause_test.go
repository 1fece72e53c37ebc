package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// A leader that is stopped for ten seconds under load: the others go on, and
// what it says when it wakes up is neither stale nor counts twice.
//
// guards P1 P2 P4 P5
func TestLeaderPausedUnderLoad(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	old, others := leader(t, ctx, c)
	oldRaw := dialRaw(t, c, old)

	s := newStream(ctx, t, c, 200)
	s.await(t, ctx, 40)
	before, err := oldRaw.do(ctx, http.MethodGet, "/v1/tasks?limit=1", nil)
	if err != nil {
		t.Fatal(err)
	}

	if err := old.Pause(); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	// Requests that reach it while it is stopped are answered when it wakes.
	late := make(chan error, 1)
	go func() {
		_, err := oldRaw.do(ctx, http.MethodPost, "/v1/tasks", shell("late", "echo late"), "Idempotency-Key", "late-1")
		late <- err
	}()
	cl := dial(t, c, others...)
	until(t, ctx, "a leader besides the stopped one", func(ctx context.Context) error {
		st, err := c.Status(ctx, others[0])
		if err == nil && (st.Leader == "" || st.Leader == old.ID) {
			err = fmt.Errorf("leader %q", st.Leader)
		}
		return err
	})
	during := submit(t, ctx, cl, shell("during", "echo during"))
	acknowledged := s.finish(t)
	acknowledged["during"] = during.ID
	if err := cluster.Until(ctx, "ten seconds", func(context.Context) error {
		if d := time.Since(stopped); d < 10*time.Second {
			return fmt.Errorf("%v", d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// From its first answer on, the woken node must know what the others were
	// told, and its index must never run back.
	var readers sync.WaitGroup
	failures := make(chan error, 4)
	last, err := strconv.ParseUint(before.header.Get("Holdfast-Index"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	for range cap(failures) {
		readers.Go(func() { failures <- readsOwnWrite(ctx, oldRaw, during.ID, last, 25) })
	}
	readers.Wait()
	for range cap(failures) {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}

	<-late // whatever it was told: the same key must find the same task
	a, err := dialRaw(t, c, others[1]).do(ctx, http.MethodPost, "/v1/tasks", shell("late", "echo late"), "Idempotency-Key", "late-1")
	if err != nil {
		t.Fatal(err)
	}
	var task client.Task
	if err := a.into(&task); err != nil {
		t.Fatal(err)
	}
	acknowledged["late"] = task.ID
	checkEach(t, ctx, cl, acknowledged)
	checkEach(t, ctx, dial(t, c, old), acknowledged)
}

// readsOwnWrite reads a task through a node until it has answered some times.
// No answer is fine; an answer without the task, or from an earlier index than
// the one before it, is not.
func readsOwnWrite(ctx context.Context, r *raw, id string, last uint64, times int) error {
	for good := 0; good < times; {
		a, err := r.do(ctx, http.MethodGet, "/v1/tasks/"+id, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || a.status == http.StatusServiceUnavailable {
			continue
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("a linearizable read after the write was answered with %d: %s", a.status, a.body)
		}
		index, err := strconv.ParseUint(a.header.Get("Holdfast-Index"), 10, 64)
		if err != nil {
			return err
		}
		if index < last {
			return fmt.Errorf("the index ran back from %d to %d", last, index)
		}
		last = index
		good++
	}
	return nil
}
