package clienttest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"holdfast/client"
)

func (s *Server) routes(node int) *http.ServeMux {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/tasks", s.submit)
	m.HandleFunc("POST /v1/tasks/batch", s.submitBatch)
	m.HandleFunc("POST /v1/tasks/stream", s.submitStream)
	m.HandleFunc("GET /v1/tasks", s.list)
	m.HandleFunc("GET /v1/tasks/{id}", s.withTask(func(w http.ResponseWriter, _ *http.Request, t *task) {
		answer(w, 200, t.Task)
	}))
	m.HandleFunc("POST /v1/tasks/{id}/cancel", s.withTask(s.cancel))
	m.HandleFunc("GET /v1/tasks/{id}/wait", s.withTask(s.waitTask))
	m.HandleFunc("GET /v1/tasks/{id}/output", s.withTask(s.output))
	m.HandleFunc("GET /v1/nodes", func(w http.ResponseWriter, _ *http.Request) {
		s.locked(func() { answer(w, 200, client.NodeList{Nodes: s.nodeList(), Index: s.index}) })
	})
	m.HandleFunc("GET /v1/nodes/{id}", s.withNode(func(w http.ResponseWriter, _ *http.Request, n client.Node) {
		answer(w, 200, n)
	}))
	m.HandleFunc("POST /v1/nodes/{id}/drain", s.withNode(s.drain))
	m.HandleFunc("DELETE /v1/nodes/{id}", s.withNode(func(w http.ResponseWriter, _ *http.Request, n client.Node) {
		s.removed[n.ID] = true
		s.changed()
		w.WriteHeader(204)
	}))
	m.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		s.locked(func() { answer(w, 200, s.status(node)) })
	})
	m.HandleFunc("POST /v1/cluster/transfer", func(w http.ResponseWriter, _ *http.Request) {
		s.locked(func() { s.leader = (s.leader + 1) % len(s.nodes); s.changed(); w.WriteHeader(204) })
	})
	m.HandleFunc("GET /v1/tokens", s.listTokens)
	m.HandleFunc("POST /v1/tokens", s.createToken)
	m.HandleFunc("DELETE /v1/tokens/{id}", s.revokeToken)
	m.HandleFunc("GET /v1/snapshot", func(w http.ResponseWriter, _ *http.Request) {
		s.locked(func() {
			text := s.snapshot
			if text == nil {
				text = fmt.Appendf(nil, "portable snapshot of %d tasks\n", len(s.tasks))
			}
			_, _ = w.Write(text)
		})
	})
	m.HandleFunc("POST /v1/snapshot", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		s.locked(func() { s.snapshot = b; s.changed(); w.WriteHeader(204) })
	})
	return m
}

// Snapshot returns what was restored last.
func (s *Server) Snapshot() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.snapshot)
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *Server) withTask(f func(http.ResponseWriter, *http.Request, *task)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t := s.find(r.PathValue("id"))
		if t == nil {
			problem(w, 404, client.CodeNotFound, "Not found", "there is no task "+r.PathValue("id"))
			return
		}
		f(w, r, t)
	}
}

func (s *Server) cancel(w http.ResponseWriter, _ *http.Request, t *task) {
	if t.Terminal() {
		problem(w, 409, client.CodeConflict, "Conflict", "task "+t.ID+" has ended: "+t.State)
		return
	}
	s.end(t, "cancelled", nil, "SIGTERM")
	t.Index = s.changed()
	answer(w, 200, t.Task)
}

func (s *Server) waitTask(w http.ResponseWriter, r *http.Request, t *task) {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil {
		problem(w, 422, client.CodeInvalid, "Invalid request", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	s.wait(ctx, t.Terminal)
	answer(w, 200, t.Task)
}

func (s *Server) output(w http.ResponseWriter, r *http.Request, t *task) {
	q := r.URL.Query()
	off, _ := strconv.Atoi(q.Get("offset"))
	follow := q.Get("follow") == "true"
	if follow {
		s.wait(r.Context(), func() bool { return t.Attempt > 0 || t.Terminal() })
	}
	if n, _ := strconv.Atoi(q.Get("attempt")); n > t.Attempt || t.Attempt == 0 {
		problem(w, 404, client.CodeNotFound, "Not found", fmt.Sprintf("task %s has no attempt %d", t.ID, max(n, 1)))
		return
	}
	w.Header().Set("Holdfast-Attempt", strconv.Itoa(t.Attempt))
	w.WriteHeader(200)
	for {
		// A break that was asked for is asked by panic: mu is held over it,
		// and withTask's defer releases it.
		if all := t.out[q.Get("stream")]; off < len(all) {
			if _, err := w.Write(all[off:]); err != nil {
				return
			}
			off = len(all)
		}
		w.(http.Flusher).Flush()
		if !follow || t.Terminal() && off >= len(t.out[q.Get("stream")]) {
			return
		}
		if !s.wait(r.Context(), func() bool { return t.Terminal() || off < len(t.out[q.Get("stream")]) }) {
			return
		}
	}
}

func (s *Server) nodeList() []client.Node {
	out := []client.Node{}
	for i, a := range s.Addrs() {
		n := client.Node{ID: nodeID(i), Name: fmt.Sprintf("n%d", i+1), Addr: a, Version: "v0", State: "ready", Role: "voter",
			CPUMillis: 2000, MemoryBytes: 4 << 30, UsedCPUMillis: 500, UsedMemoryBytes: 512 << 20, Running: 1,
			Labels: map[string]string{"zone": string(rune('a' + i))}, Gossip: "alive"}
		if i == 1 {
			n.Weaker = []string{"landlock"}
		}
		if i == s.leader {
			n.Role = "leader"
		}
		if s.drained[n.ID] {
			n.State = "draining"
		}
		if !s.removed[n.ID] {
			out = append(out, n)
		}
	}
	return out
}

func (s *Server) withNode(f func(http.ResponseWriter, *http.Request, client.Node)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range s.nodeList() {
			if n.ID == r.PathValue("id") {
				f(w, r, n)
				return
			}
		}
		problem(w, 404, client.CodeNotFound, "Not found", "there is no node "+r.PathValue("id"))
	}
}

func (s *Server) drain(w http.ResponseWriter, r *http.Request, n client.Node) {
	var d client.DrainRequest
	if !decode(w, r, &d) {
		return
	}
	s.drained[n.ID] = d.Drain
	s.changed()
	n.State = "ready"
	if d.Drain {
		n.State = "draining"
	}
	answer(w, 200, n)
}

func (s *Server) status(node int) client.ClusterStatus {
	c := client.ClusterStatus{ClusterID: "test", Leader: nodeID(s.leader), LeaderAddr: s.Addrs()[s.leader], Term: 3,
		Index: s.index, CommitIndex: s.index, AnsweredBy: nodeID(node), Tolerates: (len(s.nodes) - 1) / 2, FeatureLevel: 1, CAPin: s.CA.Pin()}
	for _, n := range s.nodeList() {
		c.Members = append(c.Members, client.Member{ID: n.ID, Name: n.Name, Addr: n.Addr, Role: n.Role, Healthy: true})
	}
	for _, t := range s.tasks {
		switch {
		case t.Terminal():
			c.Finished++
		case t.State == "running":
			c.Running++
		default:
			c.Queued++
		}
	}
	return c
}

func (s *Server) listTokens(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := client.TokenList{Tokens: []client.Token{}, Index: s.index}
	for _, t := range s.tokens {
		l.Tokens = append(l.Tokens, t.Token)
	}
	answer(w, 200, l)
}

func (s *Server) createToken(w http.ResponseWriter, r *http.Request) {
	var req client.TokenRequest
	if !decode(w, r, &req) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("k%d", len(s.tokens))
	t := client.NewToken{Token: client.Token{ID: id, Name: req.Name, Role: req.Role, CreatedAt: s.clock}, Secret: "hf_" + id + "_secret"}
	if req.TTL > 0 {
		t.ExpiresAt = new(s.clock.Add(time.Duration(req.TTL)))
	}
	if req.Role == "node" {
		t.UsesLeft = new(max(1, req.Uses))
		t.Secret = "hfjoin_" + id
	}
	s.tokens = append(s.tokens, t)
	s.changed()
	answer(w, 201, t)
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.tokens)
	s.tokens = slices.DeleteFunc(s.tokens, func(t client.NewToken) bool { return t.ID == r.PathValue("id") })
	if len(s.tokens) == n {
		problem(w, 404, client.CodeNotFound, "Not found", "there is no token "+r.PathValue("id"))
		return
	}
	s.changed()
	w.WriteHeader(204)
}
