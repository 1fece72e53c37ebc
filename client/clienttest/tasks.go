package clienttest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"holdfast/client"
)

type task struct {
	client.Task
	out map[string][]byte // by stream
}

// run gives a task's end by its command: "echo" and "err" write their
// arguments to stdout and stderr, "cat" its stdin, "exit N" exits, "signal
// NAME" dies of a signal, "oom", "timeout", "lost" and "broken" end for that
// reason, "expire" never starts, "queue" stays queued, and anything else runs until it is
// cancelled. Caller holds mu.
func (s *Server) run(t *task) {
	spec := t.Spec
	t.State, t.Attempt, t.Node = "running", 1, nodeID(0)
	t.StartedAt = new(s.clock)
	arg := strings.Join(spec.Command[1:], " ")
	code := func(n int) { s.end(t, "exit", &n, "") }
	switch spec.Command[0] {
	case "echo":
		t.out["stdout"] = []byte(arg + "\n")
		code(0)
	case "err":
		t.out["stderr"] = []byte(arg + "\n")
		code(0)
	case "cat":
		t.out["stdout"] = append([]byte(spec.Stdin), spec.StdinBase64...)
		code(0)
	case "exit":
		n, _ := strconv.Atoi(arg)
		code(n)
	case "signal":
		s.end(t, "signal", nil, arg)
	case "oom":
		s.end(t, "out_of_memory", nil, "SIGKILL")
	case "timeout":
		s.end(t, "timeout", nil, "")
	case "lost":
		s.end(t, "lost", nil, "")
	case "broken":
		s.end(t, "start_failed", nil, "")
	case "expire":
		s.end(t, "queue_timeout", nil, "")
	case "queue":
		t.State, t.Attempt, t.Node, t.StartedAt = "queued", 0, "", nil
	}
}

func (s *Server) end(t *task, reason string, code *int, signal string) {
	switch {
	case reason == "exit" && *code == 0:
		t.State = "succeeded"
	case reason == "cancelled":
		t.State = "cancelled"
	case reason == "queue_timeout":
		t.State = "expired"
	default:
		t.State = "failed"
	}
	t.FinishedAt = new(s.clock)
	t.Result = &client.TaskResult{Reason: reason, ExitCode: code, Signal: signal,
		Usage:       client.Usage{CPUSeconds: 0.25, WallSeconds: 1.5, MemoryPeakBytes: 3 << 20},
		StdoutBytes: int64(len(t.out["stdout"])), StderrBytes: int64(len(t.out["stderr"]))}
	if w := t.Spec.Labels["weaker"]; w != "" {
		t.Result.Weaker = []string{w}
	}
}

// accept makes tasks once per request ID. Caller holds mu.
func (s *Server) accept(key string, specs []client.TaskSpec) []string {
	if ids, ok := s.requests[key]; ok && key != "" {
		return ids
	}
	var ids []string
	for _, spec := range specs {
		t := &task{out: map[string][]byte{}}
		t.ID = fmt.Sprintf("t%d", len(s.tasks)+1)
		t.Spec, t.Name, t.Owner, t.State = &spec, spec.Name, "admin", "queued"
		t.SubmittedAt = s.clock
		t.Index = s.changed()
		s.tasks = append(s.tasks, t)
		s.run(t)
		ids = append(ids, t.ID)
	}
	s.requests[key] = ids
	return ids
}

func (s *Server) find(id string) *task {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "t"))
	if err != nil || n < 1 || n > len(s.tasks) {
		return nil
	}
	return s.tasks[n-1]
}

// Finish ends a task that still runs.
func (s *Server) Finish(id string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(s.find(id), "exit", &code, "")
	s.changed()
}

// Write adds to a task's output.
func (s *Server) Write(id, stream, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.find(id)
	t.out[stream] = append(t.out[stream], text...)
	s.changed()
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		problem(w, 422, client.CodeInvalid, "Invalid request", err.Error())
		return false
	}
	return true
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) {
	var spec client.TaskSpec
	if !decode(w, r, &spec) {
		return
	}
	if len(spec.Command) == 0 {
		problem(w, 422, client.CodeInvalid, "Invalid request", "command is empty")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.accept(r.Header.Get("Idempotency-Key"), []client.TaskSpec{spec})
	answer(w, 201, s.find(ids[0]).Task)
}

func (s *Server) submitBatch(w http.ResponseWriter, r *http.Request) {
	var b client.SubmitBatch
	if !decode(w, r, &b) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.accept(r.Header.Get("Idempotency-Key"), b.Tasks)
	answer(w, 200, client.SubmitBatchResult{IDs: ids, Index: s.index})
}

func (s *Server) submitStream(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.EnableFullDuplex() // HTTP/1.1; HTTP/2 is
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(200)
	_ = rc.Flush()
	line := 1
	if n, err := strconv.Atoi(r.Header.Get("Holdfast-First-Line")); err == nil {
		line = n
	}
	sc := bufio.NewScanner(r.Body)
	for ; sc.Scan(); line++ {
		a := client.StreamAnswer{Line: line}
		var spec client.TaskSpec
		if err := json.Unmarshal(sc.Bytes(), &spec); err != nil || len(spec.Command) == 0 {
			a.Problem = &client.Problem{Type: client.ProblemPrefix + client.CodeInvalid, Title: "Invalid request", Status: 422, Detail: "command is empty"}
		} else {
			s.mu.Lock()
			a.ID = s.accept(fmt.Sprintf("%s#%d", r.Header.Get("Idempotency-Key"), line), []client.TaskSpec{spec})[0]
			a.Index = s.index
			s.mu.Unlock()
		}
		b, _ := json.Marshal(a)
		if _, err := w.Write(append(b, '\n')); err != nil {
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit <= 0 {
		limit = 100
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.tasks)
	if q.Get("order") == "newest" {
		slices.Reverse(all)
	}
	from, _ := strconv.Atoi(q.Get("cursor"))
	l := client.TaskList{Tasks: []client.Task{}, Index: s.index}
	for i := from; i < len(all); i++ {
		t := all[i].Task
		t.Spec = nil
		if !matches(all[i], q) {
			continue
		}
		if len(l.Tasks) == limit {
			l.Cursor = strconv.Itoa(i)
			break
		}
		l.Tasks = append(l.Tasks, t)
	}
	answer(w, 200, l)
}

func matches(t *task, q map[string][]string) bool {
	if st := q["state"]; len(st) > 0 && !slices.Contains(st, t.State) {
		return false
	}
	for _, l := range q["label"] {
		k, v, _ := strings.Cut(l, "=")
		if t.Spec.Labels[k] != v {
			return false
		}
	}
	for _, n := range q["name"] {
		if t.Name != n {
			return false
		}
	}
	for _, o := range q["owner"] {
		if t.Owner != o {
			return false
		}
	}
	return true
}
