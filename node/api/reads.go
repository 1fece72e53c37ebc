package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"holdfast/client"
)

const (
	defaultWait = 30 * time.Second
	maxWait     = 5 * time.Minute // proxies and clients give up on longer ones
)

func (s *server) registerReads() {
	readProblems := []string{client.CodeNotFound, client.CodeUnavailable, client.CodeStaleTooOld}
	register(s, operation{
		id: "list-tasks", method: http.MethodGet, path: "/v1/tasks", tag: "tasks",
		summary:     "List tasks",
		description: "Filters combine: any of the states, all of the labels. The cursor of a page gives the next one; tasks that come in between are not missed, and none comes twice.",
		repeated:    []string{"state", "label"},
		problems:    readProblems[1:],
	}, s.listTasks)
	register(s, operation{
		id: "get-task", method: http.MethodGet, path: "/v1/tasks/{id}", tag: "tasks",
		summary: "Get a task", problems: readProblems,
	}, s.getTask)
	register(s, operation{
		id: "wait-task", method: http.MethodGet, path: "/v1/tasks/{id}/wait", tag: "tasks", long: true,
		summary:     "Wait for a task's end",
		description: "Answers with the task once it is terminal, or as it is when the timeout is over.",
		problems:    readProblems,
	}, s.waitTask)
}

// ReadParams say how fresh an answer must be.
type ReadParams struct {
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"linearizable" doc:"linearizable: nothing that was acknowledged is missing. stale: what this node has"`
	MaxAge      string `query:"max_age" maxLength:"32" example:"2s" doc:"With stale: refuse if this node was last known to be current longer ago"`
	MinIndex    uint64 `query:"min_index" doc:"Wait until this node has applied at least this log index"`
}

// Freshness is in every answer.
type Freshness struct {
	Index uint64 `header:"Holdfast-Index" doc:"Log index that the answer reflects"`
	Age   string `header:"Holdfast-Age" doc:"Of a stale read: seconds since the node was last known to be current; left out if it never was since its start"`
}

// barrier waits until the state may be read, within the read timeout.
func (s *server) barrier(ctx context.Context, p ReadParams) (Freshness, error) {
	opts := ReadOptions{Stale: p.Consistency == "stale", MinIndex: p.MinIndex}
	if p.MaxAge != "" {
		var age client.Duration
		if err := age.UnmarshalText([]byte(p.MaxAge)); err != nil {
			return Freshness{}, invalidAt("query.max_age", "%s", err)
		}
		if !opts.Stale {
			return Freshness{}, invalidAt("query.max_age", "goes with consistency=stale only: a linearizable read has no age")
		}
		opts.MaxAge = time.Duration(age)
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.ReadTimeout)
	defer cancel()
	info, err := s.cfg.Backend.ReadBarrier(ctx, opts)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && p.MinIndex > s.cfg.Backend.State().Index() {
			p := newProblem(client.CodeUnavailable, "this node has not applied index %d within %s: try again, or ask another node", p.MinIndex, s.limits.ReadTimeout)
			p.cause = err
			return Freshness{}, p
		}
		return Freshness{}, err
	}
	f := Freshness{Index: info.Index}
	if opts.Stale && info.Age >= 0 { // no age is better than one that nobody knows
		f.Age = strconv.FormatFloat(info.Age.Seconds(), 'f', 3, 64)
	}
	return f, nil
}

type getInput struct {
	TaskPath
	ReadParams
}

func (s *server) getTask(ctx context.Context, _ *call, in *getInput) (*taskOutput, error) {
	id, err := taskID(in.ID)
	if err != nil {
		return nil, err
	}
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	view, ok := s.cfg.Backend.State().Task(id)
	if !ok {
		return nil, noTask(id)
	}
	out := &taskOutput{Freshness: fresh}
	out.Body, err = taskOf(view, true)
	return out, err
}

type waitInput struct {
	TaskPath
	ReadParams
	Timeout string `query:"timeout" maxLength:"32" example:"30s" doc:"Longest wait, at most 5m; default 30s"`
}

func (s *server) waitTask(ctx context.Context, _ *call, in *waitInput) (*taskOutput, error) {
	id, err := taskID(in.ID)
	if err != nil {
		return nil, err
	}
	timeout := client.Duration(defaultWait)
	if in.Timeout != "" {
		if err := timeout.UnmarshalText([]byte(in.Timeout)); err != nil {
			return nil, invalidAt("query.timeout", "%s", err)
		}
		if time.Duration(timeout) > maxWait {
			return nil, invalidAt("query.timeout", "is %s, at most %s: wait again", timeout, maxWait)
		}
	}
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(time.Duration(timeout))
	defer timer.Stop()
	for {
		// Watch before looking: an end in between closes the channel.
		changed, stop := s.cfg.Backend.WatchTask(id)
		view, ok := s.cfg.Backend.State().Task(id)
		if !ok {
			stop()
			return nil, noTask(id)
		}
		over := view.State.Terminal()
		if !over {
			select {
			case <-changed:
			case <-timer.C:
				over = true
				view, ok = s.cfg.Backend.State().Task(id)
			case <-ctx.Done():
				stop()
				return nil, ctx.Err()
			}
		}
		stop()
		if !ok {
			return nil, noTask(id)
		}
		if over {
			// The index of the barrier may be behind the change that ended it.
			out := &taskOutput{Freshness: fresh}
			out.Index = max(out.Index, view.Index)
			out.Body, err = taskOf(view, true)
			return out, err
		}
	}
}
