package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// session is one recording client. It belongs to one goroutine.
type session struct {
	l       *Load
	process int
	rng     *rand.Rand
	cl      *client.Client
	give    time.Duration
	told    client.Answer // the last answer of the call under way
	tries   []error       // that failed, of the call under way, but for its last
	keys    int
}

// newSession makes a client that asks nodes in the given order. With tries of
// 1 it never asks twice.
func (l *Load) newSession(process int, nodes []Target, tries int, timeout, give time.Duration) (*session, error) {
	s := &session{l: l, process: process, rng: rand.New(rand.NewPCG(l.cfg.Seed, uint64(process))), give: give}
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.Addr
	}
	var err error
	s.cl, err = client.New(client.Config{
		Addrs: addrs, Token: l.cfg.Token, CAPin: l.cfg.CAPin, Timeout: timeout, Retry: client.Retries{Attempts: tries},
		UserAgent: "holdfast-chaos",
		OnAnswer:  func(a client.Answer) { s.told = a },
		OnRetry:   func(e client.RetryEvent) { s.tries = append(s.tries, e.Err) },
	})
	if err != nil {
		return nil, fmt.Errorf("workload: client %d: %w", process, err)
	}
	return s, nil
}

// key names the session's next request.
func (s *session) key() string {
	s.keys++
	return fmt.Sprintf("%s-%d-%d", s.l.cfg.Name, s.process, s.keys)
}

// do records one operation around a call. The call fills in what its answer
// showed.
func (s *session) do(ctx context.Context, e history.Event, call func(context.Context, *history.Event) error) bool {
	return s.doAll(ctx, []history.Event{e}, func(ctx context.Context, list []history.Event) error { return call(ctx, &list[0]) })
}

// doAll records operations that one call carries together: all have its
// outcome.
func (s *session) doAll(ctx context.Context, list []history.Event, call func(context.Context, []history.Event) error) bool {
	s.told, s.tries = client.Answer{Age: -1}, s.tries[:0]
	for i := range list {
		e := &list[i]
		e.ID, e.Kind, e.Process = s.l.cfg.Writer.NextID(), history.Invoke, s.process
		s.l.cfg.Writer.Add(*e)
		e.Rules = nil
	}
	patient, cancel := context.WithTimeout(ctx, s.give)
	defer cancel()
	err := call(patient, list)
	kind, code := history.OK, ""
	if err != nil {
		kind, code = outcome(append(s.tries, last(patient, err)))
		if ctx.Err() != nil {
			code = history.GivenUp
		}
	}
	for i := range list {
		e := &list[i]
		e.Kind, e.Code, e.Index = kind, code, s.told.Index
		if e.Stale {
			e.Age = int64(s.told.Age)
		}
		if name := s.l.nameOf(s.told.Addr); name != "" {
			e.Node = name
		}
		if err != nil {
			e.Error, e.Task, e.Tasks = short(err), list[i].Task, nil
		}
		s.l.cfg.Writer.Add(*e)
	}
	return err == nil
}

// last is the failure of the last try, not of the tries that were listed
// before it.
func last(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err() // given up: the last try may be under way
	}
	var call *client.CallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// maxError bounds what a history keeps of an error's text.
const maxError = 160

func short(err error) string {
	s := strings.ReplaceAll(err.Error(), "\n", " ")
	return s[:min(len(s), maxError)]
}

// submit sends specs that share one request, and returns their tasks' IDs.
// Those of a batch have keys of their own, which are their names.
func (s *session) submit(ctx context.Context, op history.Op, key, node, kind string, n int) []string {
	specs := make([]client.TaskSpec, n)
	list := make([]history.Event, n)
	for i := range specs {
		name := key
		if n > 1 {
			name = fmt.Sprintf("%s.%d", key, i)
		}
		var rules history.Rules
		specs[i], rules = s.l.cfg.Ledger.task(kind, name, s.l.cfg.Canary)
		list[i] = history.Event{Op: op, Key: name, Node: node, Rules: &rules}
	}
	var ids []string
	ok := s.doAll(ctx, list, func(ctx context.Context, list []history.Event) error {
		if n == 1 {
			t, err := s.cl.Submit(ctx, specs[0], client.IdempotencyKey(key))
			if err == nil {
				ids = []string{t.ID}
				list[0].Task = t.ID
			}
			return err
		}
		r, err := s.cl.SubmitBatch(ctx, specs, client.IdempotencyKey(key))
		if err != nil {
			return err
		}
		ids = r.IDs
		for i, id := range ids {
			list[i].Task = id
		}
		return nil
	})
	if !ok {
		return nil
	}
	return ids
}

func (s *session) get(ctx context.Context, task, node string, opts ...client.CallOption) *history.View {
	return s.read(ctx, history.Event{Op: history.Get, Task: task, Node: node}, func(ctx context.Context) (*client.Task, error) {
		return s.cl.Get(ctx, task, opts...)
	})
}

func (s *session) read(ctx context.Context, e history.Event, call func(context.Context) (*client.Task, error)) *history.View {
	var v *history.View
	ok := s.do(ctx, e, func(ctx context.Context, e *history.Event) error {
		t, err := call(ctx)
		if err == nil {
			e.Tasks = []history.View{s.l.view(t)}
			v = &e.Tasks[0]
		}
		return err
	})
	if !ok {
		return nil
	}
	return v
}

func (s *session) cancel(ctx context.Context, task, key, node string) {
	s.read(ctx, history.Event{Op: history.Cancel, Task: task, Key: key, Node: node}, func(ctx context.Context) (*client.Task, error) {
		return s.cl.Cancel(ctx, task, client.IdempotencyKey(key))
	})
}

// page lists one page. With cover it has no filter and says which numbers it
// covers: from the one after the page before on.
func (s *session) page(ctx context.Context, f client.ListFilter, node string, after uint64, cover bool, opts ...client.CallOption) (*client.TaskList, uint64) {
	var list *client.TaskList
	var through uint64
	ok := s.do(ctx, history.Event{Op: history.List, Node: node}, func(ctx context.Context, e *history.Event) error {
		var err error
		if list, err = s.cl.ListPage(ctx, f, opts...); err != nil {
			return err
		}
		e.Tasks = make([]history.View, len(list.Tasks))
		for i := range list.Tasks {
			e.Tasks[i] = s.l.view(&list.Tasks[i])
		}
		if cover {
			e.Cover = &history.Cover{From: after + 1}
			if n := len(list.Tasks); n > 0 {
				through = number(list.Tasks[n-1].ID)
			}
			if list.Cursor != "" {
				e.Cover.To = through
			}
		}
		return nil
	})
	if !ok {
		return nil, 0
	}
	return list, through
}
