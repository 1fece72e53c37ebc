package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"holdfast/client"
)

// verdict compares what the cluster holds with what was asked of it.
func (r *run) verdict(ctx context.Context) (*Verdict, error) {
	v := &Verdict{Tasks: len(r.dirs), KilledAt: r.killedAt, Paused: r.resumed.Sub(r.killed)}
	if r.resumed.IsZero() {
		return nil, fmt.Errorf("no submission began after the leader's death: the pause was not measured")
	}
	c, err := r.c.Client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	byName := map[string][]*client.Task{}
	for t, err := range c.List(ctx, client.ListFilter{}) {
		if err != nil {
			return nil, fmt.Errorf("list the tasks: %w", err)
		}
		byName[t.Name] = append(byName[t.Name], t)
	}
	for i, dir := range r.dirs {
		r.judge(v, byName, i, dir)
	}
	return v, nil
}

func (r *run) judge(v *Verdict, byName map[string][]*client.Task, i int, dir string) {
	wrong := func(format string, args ...any) {
		v.Wrong = append(v.Wrong, dir+": "+fmt.Sprintf(format, args...))
	}
	tasks := byName[spec(r.opt.Source, dir).Name]
	switch {
	case len(tasks) == 0:
		v.Lost++
		wrong("acknowledged as %s, and unknown now", r.ids[i])
		return
	case len(tasks) > 1:
		v.Twice++
		wrong("submitted once, and there %d times", len(tasks))
	}
	t := tasks[0]
	if t.ID != r.ids[i] {
		wrong("acknowledged as %s, but listed as %s", r.ids[i], t.ID)
		return
	}
	if !t.Terminal() {
		v.Lost++
		wrong("task %s is %s", t.ID, t.State)
		return
	}
	want, err := direct(filepath.Join(r.opt.Source, dir))
	if err != nil {
		wrong("compute directly: %v", err)
		return
	}
	got := ""
	if t.Result != nil {
		got = strings.TrimSpace(t.Result.Tail)
		if t.State != "succeeded" {
			got = fmt.Sprintf("%s (%s %s) %s", t.State, t.Result.Reason, t.Result.Message, got)
		}
	}
	if t.State != "succeeded" || got != want {
		wrong("task %s gave %q, a direct computation %q", t.ID, got, want)
		return
	}
	v.Correct++
}
