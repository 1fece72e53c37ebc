package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// MaxBatch is the largest number of specs in one batch.
const MaxBatch = 1000

// Submit submits one task and returns it once it is durable.
func (c *Client) Submit(ctx context.Context, spec TaskSpec, opts ...CallOption) (*Task, error) {
	var t Task
	if err := c.mutate(ctx, "submit a task", http.MethodPost, "/v1/tasks", spec, &t, opts); err != nil {
		return nil, err
	}
	c.saw(t.Index)
	return &t, nil
}

// SubmitBatch submits up to MaxBatch tasks, all or none, and returns their IDs
// in the order of specs.
func (c *Client) SubmitBatch(ctx context.Context, specs []TaskSpec, opts ...CallOption) (*SubmitBatchResult, error) {
	var r SubmitBatchResult
	op := fmt.Sprintf("submit %d tasks", len(specs))
	if err := c.mutate(ctx, op, http.MethodPost, "/v1/tasks/batch", SubmitBatch{Tasks: specs}, &r, opts); err != nil {
		return nil, err
	}
	c.saw(r.Index)
	if len(r.IDs) != len(specs) {
		return nil, fmt.Errorf("%s: the answer names %d tasks", op, len(r.IDs))
	}
	return &r, nil
}

// Get returns a task.
func (c *Client) Get(ctx context.Context, id string, opts ...CallOption) (*Task, error) {
	var t Task
	if err := c.get(ctx, "get task "+id, taskPath(id, ""), c.readQuery(opts), &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// Cancel asks for a task's end and returns the task; a running attempt gets
// its grace first, so the task may still be running. A terminal task is a
// conflict.
func (c *Client) Cancel(ctx context.Context, id string, opts ...CallOption) (*Task, error) {
	var t Task
	if err := c.mutate(ctx, "cancel task "+id, http.MethodPost, taskPath(id, "/cancel"), nil, &t, opts); err != nil {
		return nil, err
	}
	c.saw(t.Index)
	return &t, nil
}

// waitSlice is how long one request of Wait stays open: short enough that
// proxies and dead connections do not matter.
const waitSlice = 25 * time.Second

// Wait returns the task once it is terminal, or ctx's error.
func (c *Client) Wait(ctx context.Context, id string, opts ...CallOption) (*Task, error) {
	q := c.readQuery(opts)
	q.Set("timeout", waitSlice.String())
	for {
		var t Task
		r := request{method: http.MethodGet, path: taskPath(id, "/wait"), query: q}
		if err := c.unary(ctx, "wait for task "+id, r, nil, &t, waitSlice+c.cfg.Timeout); err != nil {
			return nil, err
		}
		if t.Terminal() {
			return &t, nil
		}
	}
}

// ListFilter chooses tasks; empty fields choose all.
type ListFilter struct {
	States []string
	Labels map[string]string // all must match
	Owner  string
	Name   string
	Newest bool   // newest first; default oldest first
	Limit  int    // tasks per page; zero takes the server's default
	Cursor string // of an earlier page
}

func (f ListFilter) query(q url.Values) {
	for _, s := range f.States {
		q.Add("state", s)
	}
	for k, v := range f.Labels {
		q.Add("label", k+"="+v)
	}
	set := func(k, v string) {
		if v != "" {
			q.Set(k, v)
		}
	}
	set("owner", f.Owner)
	set("name", f.Name)
	set("cursor", f.Cursor)
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	if f.Newest {
		q.Set("order", "newest")
	}
}

// ListPage returns one page of tasks.
func (c *Client) ListPage(ctx context.Context, f ListFilter, opts ...CallOption) (*TaskList, error) {
	q := c.readQuery(opts)
	f.query(q)
	var l TaskList
	if err := c.get(ctx, "list tasks", "/v1/tasks", q, &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// List yields the tasks of every page. Each page is consistent in itself;
// tasks that change between two pages may be seen in either state. After an
// error the iteration ends.
func (c *Client) List(ctx context.Context, f ListFilter, opts ...CallOption) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		for {
			page, err := c.ListPage(ctx, f, opts...)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Tasks {
				if !yield(&page.Tasks[i], nil) {
					return
				}
			}
			if page.Cursor == "" || page.Cursor == f.Cursor {
				return
			}
			f.Cursor = page.Cursor
		}
	}
}

func taskPath(id, rest string) string { return "/v1/tasks/" + url.PathEscape(id) + rest }
