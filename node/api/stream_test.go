package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

// duplex is a stream whose lines and answers a test takes one by one.
type duplex struct {
	t       testing.TB
	body    *io.PipeWriter
	answers *bufio.Scanner
	resp    *http.Response
}

func (h *harness) stream(hc *http.Client, token string, headers ...string) *duplex {
	h.t.Helper()
	pr, pw := io.Pipe()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	h.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.server.URL+"/v1/tasks/stream", pr)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { pw.Close(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("status %d: %s", resp.StatusCode, b)
	}
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(nil, 1<<20)
	return &duplex{h.t, pw, sc, resp}
}

func (d *duplex) send(lines ...string) {
	d.t.Helper()
	for _, l := range lines {
		if _, err := io.WriteString(d.body, l+"\n"); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *duplex) next() client.StreamAnswer {
	d.t.Helper()
	if !d.answers.Scan() {
		d.t.Fatalf("the stream ended: %v", d.answers.Err())
	}
	var a client.StreamAnswer
	if err := json.Unmarshal(d.answers.Bytes(), &a); err != nil {
		d.t.Fatal(err)
	}
	return a
}

// rest reads to the end.
func (d *duplex) rest() []client.StreamAnswer {
	d.t.Helper()
	var all []client.StreamAnswer
	for d.answers.Scan() {
		var a client.StreamAnswer
		if err := json.Unmarshal(d.answers.Bytes(), &a); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, a)
	}
	if err := d.answers.Err(); err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (h *harness) both(t *testing.T, f func(*testing.T, *http.Client)) {
	t.Run("http1", func(t *testing.T) { f(t, h.http1) })
	t.Run("http2", func(t *testing.T) { f(t, h.http2) })
}

const echo = `{"command":["echo"]}`

// guards P1: each line is answered when it is durable, while the stream is open.
func TestStreamAnswersAsItGoes(t *testing.T) {
	h := newHarness(t, nil)
	h.both(t, func(t *testing.T, hc *http.Client) {
		d := h.stream(hc, "ann:submitter")
		for i := 1; i <= 3; i++ {
			d.send(echo)
			a := d.next()
			id, err := fsm.ParseTaskID(a.ID)
			if err != nil || a.Line != i || a.Problem != nil || a.Index == 0 {
				t.Fatalf("line %d: %+v", i, a)
			}
			if v, ok := h.backend.state.Task(id); !ok || v.Owner != "token:ann" {
				t.Fatalf("line %d was answered and is not there", i)
			}
		}
		// Bad lines have their own problems and end nothing; empty ones count.
		d.send(`{"command":[]}`, ``, `{"command":["a"],"x":1}`, `nonsense`, echo)
		for _, want := range []struct {
			line int
			code string
		}{{4, "invalid"}, {6, "invalid"}, {7, "invalid"}, {8, ""}} {
			a := d.next()
			code := ""
			if a.Problem != nil {
				code = a.Problem.Code()
			}
			if a.Line != want.line || code != want.code || (code == "") != (a.ID != "") {
				t.Fatalf("want %+v, got %+v %+v", want, a, a.Problem)
			}
		}
		// The last line needs no newline.
		if _, err := io.WriteString(d.body, echo); err != nil {
			t.Fatal(err)
		}
		d.body.Close()
		if rest := d.rest(); len(rest) != 1 || rest[0].Line != 9 || rest[0].ID == "" {
			t.Fatalf("the end: %+v", rest)
		}
	})
}

func TestStreamGathers(t *testing.T) {
	st := &stream{lines: make(chan line, 1000)}
	fill := func(n, size int) {
		for range n {
			st.lines <- line{sub: fsm.Submission{Spec: make([]byte, size)}}
		}
	}
	gather := func() int { return len(st.gather([]line{<-st.lines})) }
	fill(600, 10)
	for _, want := range []int{groupLines, groupLines, 600 - 2*groupLines} {
		if got := gather(); got != want {
			t.Errorf("a group of %d, want %d", got, want)
		}
	}
	fill(20, 60<<10)
	if got := gather(); got != 9 {
		t.Errorf("a group of %d large lines, want 9", got)
	}
	fill(1, 1)
	close(st.lines)
	if got := gather(); got != 9 {
		t.Errorf("the last group has %d lines, want 9", got)
	}
}

func TestStreamOfManyLines(t *testing.T) {
	h := newHarness(t, nil)
	h.both(t, func(t *testing.T, hc *http.Client) {
		d := h.stream(hc, "ann:submitter")
		const n = 3000
		var wg sync.WaitGroup
		wg.Go(func() {
			for range n {
				d.send(echo)
			}
			d.body.Close()
		})
		rest := d.rest()
		wg.Wait()
		seen := map[string]bool{}
		for i, a := range rest {
			if a.Line != i+1 || a.Problem != nil || seen[a.ID] {
				t.Fatalf("answer %d: %+v", i, a)
			}
			seen[a.ID] = true
		}
		if len(rest) != n {
			t.Errorf("%d answers", len(rest))
		}
	})
}

// guards P1, P2: a stream that is sent again from any line takes effect once.
func TestStreamResumes(t *testing.T) {
	h := newHarness(t, nil)
	h.both(t, func(t *testing.T, hc *http.Client) {
		key := "stream " + t.Name()
		spec := func(i int) string { return fmt.Sprintf(`{"command":["echo","%d"]}`, i) }
		d := h.stream(hc, "ann:submitter", "Idempotency-Key", key)
		ids := map[int]string{}
		for i := 1; i <= 6; i++ {
			d.send(spec(i))
			a := d.next()
			ids[a.Line] = a.ID
		}
		d.body.Close()
		d.rest()
		before := h.backend.state.Counts().Accepted
		d = h.stream(hc, "ann:submitter", "Idempotency-Key", key, "Holdfast-First-Line", "3")
		for i := 3; i <= 8; i++ {
			d.send(spec(i))
		}
		d.body.Close()
		rest := d.rest()
		if len(rest) != 6 {
			t.Fatalf("%d answers", len(rest))
		}
		for _, a := range rest {
			if want, sent := ids[a.Line]; sent && a.ID != want || a.Line < 3 || a.Line > 8 || a.Problem != nil {
				t.Errorf("line %d: %+v, was %s", a.Line, a, want)
			}
		}
		if got := h.backend.state.Counts().Accepted; got != before+2 {
			t.Errorf("%d tasks came of it, want 2", got-before)
		}
		// The same line with another spec is a mistake.
		d = h.stream(hc, "ann:submitter", "Idempotency-Key", key)
		d.send(spec(99))
		if a := d.next(); a.Problem == nil || a.Problem.Code() != client.CodeConflict {
			t.Errorf("another spec under the same key: %+v", a)
		}
		d.body.Close()
		d.rest()
		// Another principal's key is another key.
		d = h.stream(hc, "bob:submitter", "Idempotency-Key", key)
		d.send(spec(1))
		if a := d.next(); a.ID == ids[1] || a.ID == "" {
			t.Errorf("another principal got the task of the first: %+v", a)
		}
		d.body.Close()
		d.rest()
	})
}

func TestStreamLongLines(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.MaxSpecBody = 1 << 10; c.Limits.StreamBytes = 4 << 10 })
	h.both(t, func(t *testing.T, hc *http.Client) {
		d := h.stream(hc, "ann:submitter")
		var wg sync.WaitGroup
		wg.Go(func() {
			d.send(strings.Repeat("x", 200<<10), echo, strings.Repeat(" ", 2000), echo)
			d.body.Close()
		})
		rest := d.rest()
		wg.Wait()
		if len(rest) != 4 || rest[0].Problem.Code() != client.CodeTooLarge || rest[1].ID == "" || rest[2].Problem.Code() != client.CodeTooLarge || rest[3].Line != 4 || rest[3].ID == "" {
			t.Errorf("%+v", rest)
		}
	})
}

// guards P10: what a stream has in flight is bounded; its sender is held up.
func TestStreamIsBounded(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.StreamLines = groupLines + 10; c.Limits.StreamBytes = 512 << 10 })
	hold := make(chan struct{})
	h.backend.hold = hold
	d := h.stream(h.http1, "ann:submitter")
	big := `{"command":["echo"],"env":{"A":"` + strings.Repeat("x", 60<<10) + `"}}`
	sent := make(chan int, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 { // 12 MiB: far more than buffers on the way can hold
			d.send(big)
			sent <- i
		}
		close(sent)
		d.body.Close()
	})
	first := <-sent
	_ = first
	eventually(t, "the proposal", func() bool { return len(sent) > 8 })
	select {
	case _, open := <-sent:
		if !open {
			t.Fatal("nothing held the sender up")
		}
	default:
	}
	close(hold)
	if rest := d.rest(); len(rest) != 200 {
		t.Errorf("%d answers", len(rest))
	}
	wg.Wait()
}

func TestStreamRefusals(t *testing.T) {
	h := newHarness(t, nil)
	h.backend.fail = func(fsm.CommandType) error { return ErrNoLeader }
	d := h.stream(h.http2, "ann:submitter")
	d.send(echo)
	if a := d.next(); a.Problem == nil || a.Problem.Code() != client.CodeUnavailable || a.Problem.Status != 503 {
		t.Errorf("without a leader: %+v", a)
	}
	h.backend.mu.Lock()
	h.backend.fail = nil
	h.backend.mu.Unlock()
	d.send(echo)
	if a := d.next(); a.ID == "" {
		t.Errorf("after it: %+v", a)
	}
	h.audit.mu.Lock()
	h.audit.broken = io.ErrShortWrite
	h.audit.mu.Unlock()
	d.send(echo)
	if a := d.next(); a.Problem == nil || a.Problem.Code() != client.CodeUnavailable {
		t.Errorf("without an audit: %+v", a)
	}
	d.body.Close()
	d.rest()
	audit := strings.Join(h.audit.all(), "\n")
	if audit != "token:ann submit-stream  unavailable\ntoken:ann submit-stream t1 ok" {
		t.Errorf("audit:\n%s", audit)
	}
}

// guards P10: a stream on which nothing comes ends by itself, and says so.
func TestStreamIdle(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.StreamIdle = 50 * time.Millisecond })
	h.both(t, func(t *testing.T, hc *http.Client) {
		d := h.stream(hc, "ann:submitter")
		d.send(echo)
		rest := d.rest()
		if n := len(rest); n != 2 || rest[0].ID == "" || rest[1].Line != 0 || rest[1].Problem == nil {
			t.Errorf("%+v", rest)
		}
	})
}

// A caller that goes away takes its stream with it (and goleak its goroutine).
func TestStreamCallerGone(t *testing.T) {
	h := newHarness(t, nil)
	h.both(t, func(t *testing.T, hc *http.Client) {
		d := h.stream(hc, "ann:submitter")
		d.send(echo)
		d.next()
		d.resp.Body.Close()
		d.body.CloseWithError(io.ErrClosedPipe)
	})
}
