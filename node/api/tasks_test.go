package api

import (
	"slices"
	"strings"
	"testing"

	"holdfast/client"
	"holdfast/fsm"
)

func TestSubmitGetListWait(t *testing.T) {
	h := newHarness(t, nil)
	for _, hc := range []struct {
		name string
		do   func(method, path, token, body string, headers ...string) answer
	}{
		{"http2", h.do},
		{"http1", func(m, p, tok, b string, hs ...string) answer {
			return h.doWith(h.http1, h.server.URL, m, p, tok, b, hs...)
		}},
	} {
		a := hc.do("POST", "/v1/tasks", "ann:submitter", `{"name":"hello","command":["echo","hi"],"labels":{"b":"2","a":"1"}}`)
		var task client.Task
		a.into(t, 201, &task)
		if task.State != "queued" || task.Owner != "token:ann" || task.Name != "hello" || task.Index == 0 {
			t.Fatalf("%s: submitted as %+v", hc.name, task)
		}
		if a.header.Get("Location") != "/v1/tasks/"+task.ID || a.header.Get("Holdfast-Index") == "" {
			t.Errorf("%s: headers %v", hc.name, a.header)
		}
		var got client.Task
		a = hc.do("GET", "/v1/tasks/"+task.ID, "bob:viewer", "")
		a.into(t, 200, &got)
		if got.Spec == nil || got.Spec.Resources.MemoryBytes != 512<<20 || got.Spec.Labels["a"] != "1" || *got.Spec.Priority != 50 {
			t.Errorf("%s: got %+v", hc.name, got.Spec)
		}
		if a.header.Get("Holdfast-Index") == "" || a.header.Get("Holdfast-Age") != "" {
			t.Errorf("%s: headers of a linearizable read: %v", hc.name, a.header)
		}
		var list client.TaskList
		hc.do("GET", "/v1/tasks?state=queued&label=a%3D1&order=newest&limit=1", "bob:viewer", "").into(t, 200, &list)
		if len(list.Tasks) != 1 || list.Tasks[0].ID != task.ID || list.Tasks[0].Spec != nil || list.Index == 0 {
			t.Errorf("%s: listed %+v", hc.name, list)
		}

		hc.do("GET", "/v1/tasks/"+task.ID+"/wait?timeout=1ms", "bob:viewer", "").into(t, 200, &got)
		if got.State != "queued" {
			t.Errorf("%s: a wait that was over gave %s", hc.name, got.State)
		}
		done := make(chan answer)
		go func() { done <- hc.do("GET", "/v1/tasks/"+task.ID+"/wait?timeout=1m", "bob:viewer", "") }()
		id, err := fsm.ParseTaskID(task.ID)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the wait", func() bool { return h.backend.watching(id) == 1 })
		h.backend.run(t, id, fsm.AttemptResult{Reason: fsm.EndExit, ExitCode: 3, Tail: []byte("x\xff"), Weaker: []string{"landlock"}})
		(<-done).into(t, 200, &got)
		if got.State != "failed" || got.Result == nil || *got.Result.ExitCode != 3 || got.Result.Tail != "x\uFFFD" || !slices.Equal(got.Result.Weaker, []string{"landlock"}) {
			t.Errorf("%s: waited for %+v, result %+v", hc.name, got, got.Result)
		}
		if n := h.backend.watching(id); n != 0 {
			t.Errorf("%s: %d watches are left", hc.name, n)
		}
	}
	audit := strings.Join(h.audit.all(), "\n")
	if audit != "token:ann submit-task t1 ok\ntoken:ann submit-task t2 ok" {
		t.Errorf("audit:\n%s", audit)
	}
}
