package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"holdfast/client"
	"holdfast/fsm"
)

// guards P8: without a principal nothing is served but what is public.
func TestUnauthenticated(t *testing.T) {
	h := newHarness(t, nil)
	for _, path := range []string{"/", "/v1/tasks", "/v1/tasks/t1", "/nothing", "/metrics", "//healthz", "/healthz/", "/v1/../healthz", "/openapi.json/x"} {
		a := h.do("GET", path, "", "")
		a.problem(t, 401, client.CodeUnauthenticated)
		if a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no WWW-Authenticate", path)
		}
	}
	h.do("POST", "/healthz", "", "").problem(t, 401, client.CodeUnauthenticated)
	h.do("GET", "/v1/tasks", "expired", "").problem(t, 401, client.CodeTokenExpired)
	a := h.do("GET", "/v1/tasks", "often", "")
	a.problem(t, 429, client.CodeRateLimited)
	if a.header.Get("Retry-After") != "7" {
		t.Errorf("retry after %q", a.header.Get("Retry-After"))
	}
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		if a := h.do("GET", path, "", ""); a.status != 200 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, l := range h.audit.all() {
		if !strings.Contains(l, "refused unauthenticated") && !strings.Contains(l, "refused token_expired") {
			t.Errorf("audit: %s", l)
		}
	}
	if n := len(h.audit.all()); n != 11 {
		t.Errorf("%d refusals were audited, want 11", n)
	}
}

func TestRouting(t *testing.T) {
	h := newHarness(t, nil)
	h.do("GET", "/v1/nothing", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	h.do("GET", "/v1/tasks/", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	h.do("GET", "/v1//tasks", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	h.do("GET", "/v1/tasks/../tasks", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	a := h.do("DELETE", "/v1/tasks", "ann:admin", "")
	a.problem(t, 405, client.CodeInvalid)
	if got := a.header.Values("Allow"); len(got) != 2 {
		t.Errorf("Allow: %v", got)
	}
	h.do("PUT", "/v1/tasks/t1", "ann:admin", "{}").problem(t, 405, client.CodeInvalid)
	h.do("GET", "/v1/tasks?name="+strings.Repeat("x", 9000), "ann:admin", "").problem(t, 414, client.CodeTooLarge)
	h.do("GET", "/v1/tasks/t404", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	h.do("GET", "/v1/tasks/404", "ann:admin", "").problem(t, 422, client.CodeInvalid)
	h.do("GET", "/v1/tasks/t%2F1", "ann:admin", "").problem(t, 422, client.CodeInvalid)
	h.do("POST", "/v1/tasks", "ann:viewer", "{}").problem(t, 403, client.CodeForbidden)
	if got := h.audit.all(); len(got) != 1 || got[0] != "token:ann submit-task refused forbidden" {
		t.Errorf("audit: %v", got)
	}
}

func TestBadBodies(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.MaxSpecBody = 100 << 10 })
	h.both(t, func(t *testing.T, hc *http.Client) {
		deep := strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)
		for name, c := range map[string]struct {
			body     string
			status   int
			code     string
			location string
		}{
			"unknown field":    {`{"command":["a"],"comand":1}`, 400, "invalid", "body"},
			"other case":       {`{"Command":["a"]}`, 400, "invalid", "body"},
			"duplicate key":    {`{"command":["a"],"command":["b"]}`, 400, "invalid", "body"},
			"nested":           {`{"command":["a"],"resources":{"pids":1,"pids":2}}`, 400, "invalid", "body.resources"},
			"wrong type":       {`{"command":"a"}`, 400, "invalid", "body.command"},
			"float":            {`{"command":["a"],"priority":1.5}`, 400, "invalid", "body.priority"},
			"null":             {`{"command":null}`, 400, "invalid", "body.command"},
			"trailing":         {`{"command":["a"]}{}`, 400, "invalid", "body"},
			"not JSON":         {`command: a`, 400, "invalid", "body"},
			"a list":           {`[{"command":["a"]}]`, 400, "invalid", "body"},
			"not UTF-8":        {"{\"command\":[\"a\xff\"]}", 400, "invalid", "body"},
			"deep":             {deep, 400, "invalid", ""},
			"deep list":        {`{"command":` + strings.Repeat("[", 40000), 400, "invalid", ""},
			"bad duration":     {`{"command":["a"],"timeouts":{"run":"soon"}}`, 400, "invalid", ""},
			"no command":       {`{}`, 422, "invalid", "body.command"},
			"priority":         {`{"command":["a"],"priority":101}`, 422, "invalid", "body.priority"},
			"spec too large":   {`{"command":["a"],"stdin":"` + strings.Repeat("x", 65<<10) + `"}`, 413, "too_large", ""},
			"over-long":        {`{"command":["` + strings.Repeat("x", 100<<10) + `"]}`, 413, "too_large", ""},
			"only white space": {"   ", 400, "invalid", "body"},
		} {
			a := h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", c.body)
			p := a.problem(t, c.status, c.code)
			if c.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != c.location) {
				t.Errorf("%s: errors %+v, want them at %s", name, p.Errors, c.location)
			}
		}
		// Over-long without saying so first.
		req, err := http.NewRequestWithContext(t.Context(), "POST", h.server.URL+"/v1/tasks", io.MultiReader(strings.NewReader(`{"command":["`+strings.Repeat("x", 101<<10)+`"]}`)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ann:submitter")
		req.Header.Set("Content-Type", "application/json")
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("over-long, chunked: %d", resp.StatusCode)
		}
		for ct, status := range map[string]int{
			"": 415, "text/plain": 415, "application/x-www-form-urlencoded": 415, "application/json; charset=latin1": 415,
			"application/json; charset=UTF-8": 201, "application/problem+json": 415, "APPLICATION/JSON": 201,
		} {
			if a := h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", echo, "Content-Type", ct); a.status != status {
				t.Errorf("content type %q: %d %s", ct, a.status, a.body)
			}
		}
		h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", echo, "Content-Encoding", "gzip").problem(t, 415, client.CodeInvalid)
		h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", "").problem(t, 415, client.CodeInvalid)
		h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", "", "Content-Type", "application/json").problem(t, 400, client.CodeInvalid)
	})
}

func TestBadParameters(t *testing.T) {
	h := newHarness(t, nil)
	for _, q := range []string{
		"limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1&limit=2", "order=sideways", "state=done", "label=x", "label==x",
		"cursor=x", "cursor=AQAAAAAAAAABAAAAAA", "unknown=1", "consistency=eventual", "max_age=1s", "consistency=stale&max_age=x",
		"consistency=stale&max_age=-1s", "min_index=-1", "min_index=x", "owner=%zz", "spec=maybe", "a;b=1",
	} {
		a := h.do("GET", "/v1/tasks?"+q, "ann:viewer", "")
		if a.status != 400 && a.status != 422 {
			t.Errorf("%s: %d %s", q, a.status, a.body)
			continue
		}
		a.problem(t, a.status, client.CodeInvalid)
	}
	h.do("POST", "/v1/tasks", "ann:submitter", `{"command":["a"]}`)
	for _, q := range []string{"timeout=x", "timeout=6m", "timeout=-1s"} {
		h.do("GET", "/v1/tasks/t1/wait?"+q, "ann:viewer", "").problem(t, 422, client.CodeInvalid)
	}
	for _, q := range []string{"stream=stdlog", "offset=-1", "attempt=-1", "follow=x"} {
		h.do("GET", "/v1/tasks/t1/output?"+q, "ann:viewer", "").problem(t, 422, client.CodeInvalid)
	}
	h.do("POST", "/v1/tasks", "ann:submitter", echo, "Idempotency-Key", strings.Repeat("k", 129)).problem(t, 422, client.CodeInvalid)
	h.do("POST", "/v1/tasks", "ann:submitter", echo, "Idempotency-Key", "k\u00e9y").problem(t, 422, client.CodeInvalid)
}

func TestBackendErrors(t *testing.T) {
	h := newHarness(t, nil)
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{ErrNoLeader, 503, client.CodeUnavailable},
		{fmt.Errorf("to n2: %w", ErrUnknownOutcome), 503, client.CodeUnavailable},
		{ErrOverloaded, 429, client.CodeOverloaded},
		{ErrStopping, 503, client.CodeUnavailable},
		{errors.New("a secret cause"), 500, client.CodeInternal},
	} {
		h.backend.mu.Lock()
		h.backend.fail = func(fsm.CommandType) error { return c.err }
		h.backend.mu.Unlock()
		a := h.do("POST", "/v1/tasks", "ann:submitter", echo)
		a.problem(t, c.status, c.code)
		if strings.Contains(string(a.body), "secret") || strings.Contains(string(a.body), "n2") {
			t.Errorf("%v leaks: %s", c.err, a.body)
		}
		all := h.audit.all()
		if last := all[len(all)-1]; last != "token:ann submit-task  "+c.code {
			t.Errorf("%v is audited as %q", c.err, last)
		}
	}
}

// guards P10: a full queue is refused, and the refusal says when to come back.
func TestQueueFull(t *testing.T) {
	h := newHarness(t, nil)
	h.backend.state = fsm.New(fsm.Limits{QueueBound: 1})
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	h.do("POST", "/v1/tasks", "ann:submitter", echo).problem(t, 429, client.CodeQueueFull)
	h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[`+echo+`]}`).problem(t, 429, client.CodeQueueFull)
}

func TestPanics(t *testing.T) {
	h := newHarness(t, nil)
	h.backend.panics = true
	h.both(t, func(t *testing.T, hc *http.Client) {
		a := h.doWith(hc, h.server.URL, "POST", "/v1/tasks", "ann:submitter", echo)
		a.problem(t, 500, client.CodeInternal)
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("the panic leaks: %s", a.body)
		}
	})
	if h.audit.pending != 0 {
		t.Errorf("%d records are pending after panics", h.audit.pending)
	}
	if all := h.audit.all(); all[0] != "token:ann submit-task  internal" {
		t.Errorf("audit: %v", all)
	}
}

// guards P8: what cannot be audited does not happen.
func TestNoAuditNoMutation(t *testing.T) {
	h := newHarness(t, nil)
	h.audit.broken = errors.New("disk full")
	h.do("POST", "/v1/tasks", "ann:submitter", echo).problem(t, 503, client.CodeUnavailable)
	if n := h.backend.state.Counts().Accepted; n != 0 {
		t.Errorf("%d tasks were accepted", n)
	}
	var list client.TaskList
	h.do("GET", "/v1/tasks", "ann:viewer", "").into(t, 200, &list)
}

// guards P4
func TestReadConsistency(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.ReadTimeout = 50_000_000 })
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	a := h.do("GET", "/v1/tasks/t1?consistency=stale", "ann:viewer", "")
	if a.status != 200 || a.header.Get("Holdfast-Age") != "1.500" || a.header.Get("Holdfast-Index") != "3" {
		t.Errorf("%d %v", a.status, a.header)
	}
	// A node that never knew itself current must not call its state fresh.
	h.backend.barrier = func(context.Context, ReadOptions) (ReadInfo, error) { return ReadInfo{Index: 3, Age: -1}, nil }
	if a := h.do("GET", "/v1/tasks/t1?consistency=stale", "ann:viewer", ""); a.status != 200 || len(a.header.Values("Holdfast-Age")) > 0 {
		t.Errorf("%d %v", a.status, a.header)
	}
	h.backend.barrier = nil
	if a := h.do("GET", "/v1/tasks/t1?consistency=stale&max_age=2s&min_index=3", "ann:viewer", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.do("GET", "/v1/tasks/t1?consistency=stale&max_age=1s", "ann:viewer", "").problem(t, 503, client.CodeStaleTooOld)
	for _, path := range []string{"/v1/tasks/t1", "/v1/tasks", "/v1/tasks/t1/wait", "/v1/tasks/t1/output", "/v1/nodes", "/v1/nodes/n1", "/v1/tokens", "/v1/cluster"} {
		p := h.do("GET", path+"?min_index=99", "ann:admin", "").problem(t, 503, client.CodeUnavailable)
		if !strings.Contains(p.Detail, "99") {
			t.Errorf("%s: %s", path, p.Detail)
		}
		q := "?min_index=3&consistency=stale"
		if strings.HasSuffix(path, "/wait") {
			q += "&timeout=1ms"
		}
		if a := h.do("GET", path+q, "ann:admin", ""); a.status != 200 || a.header.Get("Holdfast-Index") != "3" {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
}

func TestIdempotency(t *testing.T) {
	h := newHarness(t, nil)
	submit := func(token, body, key string) answer {
		return h.do("POST", "/v1/tasks", token, body, "Idempotency-Key", key)
	}
	var first, again client.Task
	submit("ann:submitter", echo, "k1").into(t, 201, &first)
	submit("ann:submitter", echo, "k1").into(t, 201, &again)
	if first.ID != again.ID {
		t.Errorf("the same key made %s and %s", first.ID, again.ID)
	}
	submit("ann:submitter", `{"command":["other"]}`, "k1").problem(t, 409, client.CodeConflict)
	submit("bob:submitter", echo, "k1").into(t, 201, &again)
	if first.ID == again.ID {
		t.Error("another principal got the first one's task")
	}
	// The same key for another operation is another request.
	h.do("POST", "/v1/tasks/"+first.ID+"/cancel", "ann:submitter", "", "Idempotency-Key", "k1").into(t, 200, &again)
	if again.State != "cancelled" {
		t.Errorf("cancelled into %s", again.State)
	}
	h.do("POST", "/v1/tasks/"+first.ID+"/cancel", "ann:submitter", "", "Idempotency-Key", "k1").into(t, 200, &again)
	h.do("POST", "/v1/tasks/"+first.ID+"/cancel", "ann:submitter", "").problem(t, 409, client.CodeConflict)
	var b1, b2 client.SubmitBatchResult
	batch := `{"tasks":[` + echo + `,` + echo + `]}`
	h.do("POST", "/v1/tasks/batch", "ann:submitter", batch, "Idempotency-Key", "k1").into(t, 201, &b1)
	h.do("POST", "/v1/tasks/batch", "ann:submitter", batch, "Idempotency-Key", "k1").into(t, 201, &b2)
	if fmt.Sprint(b1.IDs) != fmt.Sprint(b2.IDs) || len(b1.IDs) != 2 {
		t.Errorf("batches %v and %v", b1, b2)
	}
	h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[`+echo+`]}`, "Idempotency-Key", "k1").problem(t, 409, client.CodeConflict)
	// Without a key every request is another.
	submit("ann:submitter", echo, "").into(t, 201, &first)
	submit("ann:submitter", echo, "").into(t, 201, &again)
	if first.ID == again.ID {
		t.Error("two requests without a key made one task")
	}
}

func TestBatchIsAllOrNone(t *testing.T) {
	h := newHarness(t, nil)
	p := h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[`+echo+`,{"command":[]}]}`).problem(t, 422, client.CodeInvalid)
	if p.Errors[0].Location != "body.tasks[1].command" {
		t.Errorf("errors %+v", p.Errors)
	}
	h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[]}`).problem(t, 422, client.CodeInvalid)
	many := strings.Repeat(echo+",", 1000) + echo
	h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[`+many+`]}`).problem(t, 422, client.CodeInvalid)
	if n := h.backend.state.Counts().Accepted; n != 0 {
		t.Fatalf("%d tasks were accepted", n)
	}
	var r client.SubmitBatchResult
	h.do("POST", "/v1/tasks/batch", "ann:submitter", `{"tasks":[`+strings.TrimSuffix(many, ","+echo)+`]}`).into(t, 201, &r)
	if len(r.IDs) != 1000 || r.IDs[999] != "t1000" || r.Index == 0 {
		t.Errorf("%d IDs", len(r.IDs))
	}
}

func TestOpenAPI(t *testing.T) {
	h := newHarness(t, nil)
	a := h.do("GET", "/openapi.json", "", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Security    []any
			Responses   map[string]struct{ Content map[string]any }
			RequestBody struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) < 15 {
		t.Errorf("version %q with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	types := doc.Components.Schemas["Problem"].Properties["type"].Enum
	if len(types) != len(codes) {
		t.Errorf("%d types of problems are listed, there are %d", len(types), len(codes))
	}
	ids := map[string]bool{}
	mentioned := string(a.body)
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if ids[op.OperationID] || op.OperationID == "" {
				t.Errorf("%s %s: operation ID %q", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
			for status, r := range op.Responses {
				if status[0] >= '4' && r.Content["application/problem+json"] == nil {
					t.Errorf("%s %s: %s is no problem", method, path, status)
				}
			}
			if _, ok := op.Responses["default"]; ok {
				t.Errorf("%s %s has huma's default error", method, path)
			}
		}
	}
	for code := range codes {
		if !strings.Contains(mentioned, client.ProblemPrefix+code) {
			t.Errorf("%s is not listed", code)
		}
	}
	if strings.Contains(mentioned, "ErrorModel") {
		t.Error("huma's own error is described")
	}
	if ref := doc.Paths["/v1/tasks"]["post"].RequestBody.Content["application/json"].Schema["$ref"]; ref != "#/components/schemas/TaskSpec" {
		t.Errorf("the body of a submission is %v", ref)
	}
	// Every reference leads somewhere.
	for _, part := range strings.Split(mentioned, "#/components/schemas/")[1:] {
		name := part[:strings.IndexByte(part, '"')]
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("there is no schema %s", name)
		}
	}
	if a := h.do("GET", "/openapi.yaml", "ann:viewer", ""); a.status != 200 || !strings.Contains(string(a.body), "openapi: 3.1.0") {
		t.Errorf("YAML: %d %.100s", a.status, a.body)
	}
}
