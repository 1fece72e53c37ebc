package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"holdfast/client"
	"holdfast/fsm"
)

const maxBatch = 1000 // tasks; client.SubmitBatch publishes it

func (s *server) registerTasks() {
	register(s, operation{
		id: "submit-task", method: http.MethodPost, path: "/v1/tasks", tag: "tasks", status: http.StatusCreated, mutation: true,
		summary:     "Submit a task",
		description: "The task is durable when it is answered.",
		consumes:    []string{jsonType}, maxBody: s.limits.MaxSpecBody, body: client.TaskSpec{},
		problems: []string{client.CodeQueueFull, client.CodeUnavailable, client.CodeConflict},
	}, s.submitTask)
	register(s, operation{
		id: "submit-batch", method: http.MethodPost, path: "/v1/tasks/batch", tag: "tasks", status: http.StatusCreated, mutation: true,
		summary:     "Submit many tasks, all or none",
		description: "All tasks are durable when they are answered; if one is refused, so are all.",
		consumes:    []string{jsonType}, maxBody: s.limits.MaxBatchBody, body: client.SubmitBatch{},
		problems: []string{client.CodeQueueFull, client.CodeUnavailable, client.CodeConflict},
	}, s.submitBatch)
	register(s, operation{
		id: "cancel-task", method: http.MethodPost, path: "/v1/tasks/{id}/cancel", tag: "tasks", mutation: true,
		summary:     "Cancel a task",
		description: "A running attempt is told to end and is killed after its grace; its result no longer counts. A submitter may cancel its own tasks, an operator every task.",
		problems:    []string{client.CodeNotFound, client.CodeConflict, client.CodeUnavailable},
	}, s.cancelTask)
}

type submitInput struct {
	Keyed
	RawBody []byte `contentType:"application/json"`
}

type taskOutput struct {
	Freshness
	Location string `header:"Location"`
	Body     *client.Task
}

func (s *server) submitTask(ctx context.Context, c *call, in *submitInput) (*taskOutput, error) {
	var spec client.TaskSpec
	if p := decode(in.RawBody, &spec); p != nil {
		return nil, p
	}
	sub, p := submission(&spec, "body.")
	if p != nil {
		return nil, p
	}
	subs := []fsm.Submission{sub}
	result, index, err := s.propose(ctx, c, fsm.CmdSubmit, in.Key, fsm.Submit{Tasks: subs})
	if err != nil {
		return nil, err
	}
	c.target = result.First.String()
	view, ok := s.cfg.Backend.State().Task(result.First)
	if p := s.sameSubmission(in.Key, result, subs); p != nil {
		return nil, p
	}
	out := &taskOutput{Freshness: Freshness{Index: index}, Location: "/v1/tasks/" + c.target}
	if ok {
		out.Body, err = taskOf(view, false)
		return out, err
	}
	// This node has not applied the command yet, and waiting for that would
	// add a heartbeat to every submission. The time is this node's guess of
	// the leader's.
	out.Body = &client.Task{ID: c.target, State: nameOf(stateNames, fsm.Queued), Name: spec.Name, Owner: c.principal, SubmittedAt: s.cfg.Now().UTC(), Index: index}
	return out, nil
}

// sameSubmission finds out whether a key was used for other tasks before: the
// state remembers a key's result, not its body, so the tasks themselves are
// compared as far as this node has them.
func (s *server) sameSubmission(key string, r fsm.Result, subs []fsm.Submission) *problem {
	if key == "" {
		return nil
	}
	return s.sameTasks(r, subs)
}

func (s *server) sameTasks(r fsm.Result, subs []fsm.Submission) *problem {
	same := int(r.Count) == len(subs)
	for i := range subs {
		v, ok := s.cfg.Backend.State().Task(r.First + fsm.TaskID(i))
		same = same && (!ok || bytes.Equal(v.SpecBytes, subs[i].Spec))
	}
	if same {
		return nil
	}
	return newProblem(client.CodeConflict, "this Idempotency-Key was used for another submission, which made %d tasks from %s on: use a new key for new tasks", r.Count, r.First)
}

type batchOutput struct {
	Freshness
	Body client.SubmitBatchResult
}

func (s *server) submitBatch(ctx context.Context, c *call, in *submitInput) (*batchOutput, error) {
	var batch client.SubmitBatch
	if p := decode(in.RawBody, &batch); p != nil {
		return nil, p
	}
	if n := len(batch.Tasks); n == 0 || n > maxBatch {
		return nil, invalidAt("body.tasks", "has %d tasks, want 1 to %d: split it, or use a stream", n, maxBatch)
	}
	subs := make([]fsm.Submission, len(batch.Tasks))
	for i := range batch.Tasks {
		var p *problem
		if subs[i], p = submission(&batch.Tasks[i], fmt.Sprintf("body.tasks[%d].", i)); p != nil {
			return nil, p
		}
	}
	// The request itself has paid for one.
	if ok, retry := s.rates.take(c.principal, len(subs)-1, c.started); !ok {
		return nil, s.rateLimited(retry)
	}
	result, index, err := s.propose(ctx, c, fsm.CmdSubmit, in.Key, fsm.Submit{Tasks: subs})
	if err != nil {
		return nil, err
	}
	c.target = taskRange(result.First, result.Count)
	if p := s.sameSubmission(in.Key, result, subs); p != nil {
		return nil, p
	}
	out := &batchOutput{Freshness: Freshness{Index: index}, Body: client.SubmitBatchResult{IDs: make([]string, result.Count), Index: index}}
	for i := range out.Body.IDs {
		out.Body.IDs[i] = (result.First + fsm.TaskID(i)).String()
	}
	return out, nil
}

// taskRange names tasks for the audit.
func taskRange(first fsm.TaskID, count uint32) string {
	if count <= 1 {
		return first.String()
	}
	return first.String() + ".." + (first + fsm.TaskID(count) - 1).String()
}

// TaskPath is the path of one task.
type TaskPath struct {
	ID string `path:"id" example:"t1042" maxLength:"24"`
}

type cancelInput struct {
	Keyed
	TaskPath
}

func (s *server) cancelTask(ctx context.Context, c *call, in *cancelInput) (*taskOutput, error) {
	id, err := taskID(in.ID)
	if err != nil {
		return nil, err
	}
	c.target = id.String()
	if c.ownOnly {
		view, err := s.anyTask(ctx, id)
		if err != nil {
			return nil, err
		}
		if view.Owner != c.principal {
			return nil, newProblem(client.CodeForbidden, "task %s is not yours: an operator may cancel the tasks of others", id)
		}
	}
	index, applied, err := s.proposeApplied(ctx, c, fsm.CmdCancel, in.Key, fsm.Cancel{Tasks: []fsm.TaskID{id}})
	if err != nil {
		return nil, err
	}
	out := &taskOutput{Freshness: Freshness{Index: index}}
	if view, ok := s.cfg.Backend.State().Task(id); ok {
		if out.Body, err = taskOf(view, false); err != nil {
			return nil, err
		}
	}
	if out.Body == nil || !applied {
		return nil, newProblem(client.CodeUnavailable, "task %s is cancelled, but this node cannot show it yet: get it", id)
	}
	return out, nil
}

// anyTask finds a task whose fixed parts (its owner) are asked for: this
// node's copy will do if it has the task; only a task that it does not have
// needs a question to the leader.
func (s *server) anyTask(ctx context.Context, id fsm.TaskID) (*fsm.TaskView, error) {
	if view, ok := s.cfg.Backend.State().Task(id); ok {
		return view, nil
	}
	if _, err := s.barrier(ctx, ReadParams{}); err != nil {
		return nil, err
	}
	if view, ok := s.cfg.Backend.State().Task(id); ok {
		return view, nil
	}
	return nil, noTask(id)
}

func noTask(id fsm.TaskID) *problem {
	return newProblem(client.CodeNotFound, "task %s is unknown, or ended so long ago that it was forgotten", id)
}

func taskID(s string) (fsm.TaskID, error) {
	id, err := fsm.ParseTaskID(s)
	if err != nil {
		return 0, invalidAt("path.id", "%.64q is no task ID: want t and a number, as in t1042", s)
	}
	return id, nil
}
