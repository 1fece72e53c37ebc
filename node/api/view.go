package api

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/client"
	"holdfast/fsm"
)

// taskOf turns the state's task into the API's. withSpec includes the spec.
func taskOf(v *fsm.TaskView, withSpec bool) (*client.Task, error) {
	var spec fsm.Spec
	if err := fsm.Unmarshal(v.SpecBytes, &spec); err != nil {
		return nil, fmt.Errorf("decode the spec of task %s: %w", v.ID, err)
	}
	t := &client.Task{
		ID: v.ID.String(), State: nameOf(stateNames, v.State), Name: spec.Name, Owner: v.Owner,
		Attempt: int(v.Attempt), Node: string(v.Node), SubmittedAt: timeOf(v.SubmittedAt),
		StartedAt: optionalTime(v.StartedAt), FinishedAt: optionalTime(v.FinishedAt), RetryAt: optionalTime(v.RetryAt),
		Result: resultOf(v), Index: v.Index,
	}
	if withSpec {
		t.Spec = specOf(&spec)
	}
	return t, nil
}

func timeOf(unixNano int64) time.Time { return time.Unix(0, unixNano).UTC() }

func optionalTime(unixNano int64) *time.Time {
	if unixNano == 0 {
		return nil
	}
	t := timeOf(unixNano)
	return &t
}

// resultOf is the end of the latest attempt, or of a task that ended without
// one. While an attempt runs, the end of the one before is not its result.
func resultOf(v *fsm.TaskView) *client.TaskResult {
	r := v.Result
	switch {
	case v.State == fsm.Running:
		return nil
	case v.State.Terminal() && (r == nil || r.Reason != v.EndReason):
		return &client.TaskResult{Reason: nameOf(reasonNames, v.EndReason)}
	case r == nil:
		return nil
	}
	t := &client.TaskResult{
		Reason: nameOf(reasonNames, r.Reason), Signal: r.Signal, Message: r.Message,
		Usage:       client.Usage{CPUSeconds: r.CPUTime.Seconds(), WallSeconds: r.WallTime.Seconds(), MemoryPeakBytes: int64(r.MemoryPeakBytes)},
		Tail:        strings.ToValidUTF8(string(r.Tail), string(utf8.RuneError)),
		StdoutBytes: r.StdoutBytes, StderrBytes: r.StderrBytes, Truncated: r.Truncated, Weaker: r.Weaker, NotEnforced: r.NotEnforced,
	}
	if r.Reason == fsm.EndExit {
		code := int(r.ExitCode)
		t.ExitCode = &code
	}
	return t
}

// specOf turns the state's spec back into the API's, with every default
// spelled out: it says what the task gets.
func specOf(s *fsm.Spec) *client.TaskSpec {
	priority := int(s.Shape.Priority)
	t := &client.TaskSpec{
		Name: s.Name, Command: s.Command, WorkDir: s.WorkDir,
		Resources: client.Resources{CPUMillis: int(s.Shape.CPUMillis), MemoryBytes: int64(s.Shape.MemoryBytes), PIDs: int(s.PIDs)},
		Priority:  &priority, Abilities: s.Shape.Abilities,
		Placement: nameOf(placementNames, s.Shape.Placement), OnLost: nameOf(onLostNames, s.Shape.OnLost),
		Timeouts: client.Timeouts{
			Queue: client.Duration(s.Shape.QueueTimeout), Run: client.Duration(s.Shape.RunTimeout), Grace: client.Duration(s.KillGrace),
			CPU: client.Duration(s.CPUTimeLimit),
		},
		Retry:       client.Retry{Limit: int(s.Shape.RetryLimit), Backoff: client.Duration(s.Shape.RetryBackoff)},
		OutputLimit: s.OutputLimitBytes, OnOutputLimit: nameOf(outputNames, s.OnOutputLimit),
	}
	if s.IO != nil {
		t.Resources.IOWeight, t.Resources.IOReadBPS, t.Resources.IOWriteBPS = int(s.IO.Weight), s.IO.ReadBPS, s.IO.WriteBPS
	}
	t.Network = nameOf(networkNames, s.Network)
	for _, x := range s.Secrets { // whoever may read tasks must not read these
		t.Secrets = append(t.Secrets, client.Secret{Name: x.Name})
	}
	if s.Scratch != nil {
		t.Scratch = &client.Scratch{Target: s.Scratch.Target, Bytes: s.Scratch.Bytes, Inodes: int(s.Scratch.Inodes)}
	}
	if utf8.Valid(s.Stdin) {
		t.Stdin = string(s.Stdin)
	} else {
		t.StdinBase64 = s.Stdin
	}
	if len(s.Env) > 0 {
		t.Env = make(map[string]string, len(s.Env))
		for _, kv := range s.Env {
			k, v, _ := strings.Cut(kv, "=")
			t.Env[k] = v
		}
	}
	for _, m := range s.Mounts {
		t.Mounts = append(t.Mounts, client.Mount{Source: m.Source, Target: m.Target, Writable: m.Writable})
	}
	if len(s.Shape.Labels) > 0 {
		t.Labels = labelMap(s.Shape.Labels)
	}
	for _, c := range s.Shape.Constraints {
		t.Constraints = append(t.Constraints, client.Constraint{Key: c.Key, Op: nameOf(operatorNames, c.Op), Values: c.Values})
	}
	return t
}

func labelMap(list []fsm.Label) map[string]string {
	m := make(map[string]string, len(list))
	for _, l := range list {
		m[l.Key] = l.Value
	}
	return m
}
