package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

func TestFastSubmits(t *testing.T) {
	h := newFastHarness(t, nil)
	p := h.login("ann:operator")
	one := p.ask(p.request("k", run("true")))
	if one.Code != 0 || one.First == 0 || one.Count != 1 || one.Index == 0 {
		t.Fatalf("%+v", one)
	}
	three := p.ask(p.request("", run("a"), client.TaskSpec{
		Command: []string{"b"}, Mounts: []client.Mount{{Source: "/x"}}, Constraints: []client.Constraint{{Key: "z", Op: "exists"}}, // left to the library
	}, run("c")))
	if three.Code != 0 || three.First != one.First+1 || three.Count != 3 {
		t.Fatalf("%+v", three)
	}
	again := p.ask(p.request("k", run("true")))
	if again.First != one.First || again.Index == 0 {
		t.Errorf("the same key again made %+v, first %+v", again, one)
	}
	var spec fsm.Spec
	view, ok := h.backend.state.Task(fsm.TaskID(three.First + 1))
	if !ok || fsm.Unmarshal(view.SpecBytes, &spec) != nil || spec.Command[0] != "b" || len(spec.Mounts) != 1 || view.Owner != "token:ann" {
		t.Errorf("%+v %+v", view, spec)
	}
	// A record follows its answer, so that the next request may overtake it.
	want := []string{"token:ann submit-batch t2..t4 ok", "token:ann submit-task t1 ok", "token:ann submit-task t1 ok"}
	eventually(t, "the audit's records", func() bool { return slices.Equal(slices.Sorted(slices.Values(h.audit.all())), want) })
}

// A program may begin a request over one protocol and repeat it over the
// other. guards P1
func TestFastKeysAreThoseOfHTTP(t *testing.T) {
	h := newHarness(t, nil)
	fast := &fastHarness{Server: h.server.Config.Handler.(*Server), t: t, backend: h.backend, audit: h.audit}
	p := fast.login("ann:operator")
	var task client.Task
	h.do("POST", "/v1/tasks", "ann:operator", `{"command":["true"]}`, "Idempotency-Key", "k1").into(t, http.StatusCreated, &task)
	if a := p.ask(p.request("k1", run("true"))); fsm.TaskID(a.First).String() != task.ID || a.Count != 1 {
		t.Errorf("HTTP made %s, the RPC then %+v", task.ID, a)
	}
	b := p.ask(p.request("k2", run("a"), run("b")))
	var batch client.SubmitBatchResult
	h.do("POST", "/v1/tasks/batch", "ann:operator", `{"tasks":[{"command":["a"]},{"command":["b"]}]}`, "Idempotency-Key", "k2").into(t, http.StatusCreated, &batch)
	if len(batch.IDs) != 2 || batch.IDs[0] != fsm.TaskID(b.First).String() {
		t.Errorf("the RPC made %+v, HTTP then %v", b, batch.IDs)
	}
}

func TestFastRefusals(t *testing.T) {
	h := newFastHarness(t, nil)
	fail := func(err error) func() {
		return func() { h.backend.fail = func(fsm.CommandType) error { return err } }
	}
	p := h.login("ann:submitter")
	if a := p.ask(p.request("used", run("first"))); a.Code != 0 {
		t.Fatal(a)
	}
	raw := func(b ...byte) func(*frames.Request) {
		return func(r *frames.Request) { r.Specs = []cbor.RawMessage{b} }
	}
	for name, c := range map[string]struct {
		change func(*frames.Request)
		before func()
		code   frames.Code
		detail string
		retry  bool
	}{
		"an empty command":   {raw(0xa1, 0x67, 'c', 'o', 'm', 'm', 'a', 'n', 'd', 0x80), nil, frames.Invalid, "specs[0]: command: has 0 parts", false},
		"an unknown field":   {raw(0xa1, 0x61, 'x', 0x01), nil, frames.Invalid, "specs[0]: decode", false},
		"a spec of no map":   {raw(0x01), nil, frames.Invalid, "specs[0]: decode", false},
		"an unknown method":  {func(r *frames.Request) { r.Method = 9 }, nil, frames.Invalid, "method 9", false},
		"no spec":            {func(r *frames.Request) { r.Specs = nil }, nil, frames.Invalid, "has 0 specs", false},
		"too many specs":     {func(r *frames.Request) { r.Specs = slices.Repeat(r.Specs, 1001) }, nil, frames.Invalid, "1001 specs", false},
		"a long key":         {func(r *frames.Request) { r.Key = strings.Repeat("k", 129) }, nil, frames.Invalid, "129 bytes", false},
		"a key with a tab":   {func(r *frames.Request) { r.Key = "a\tb" }, nil, frames.Invalid, "printable", false},
		"a role too low":     {func(r *frames.Request) { r.Specs = slices.Repeat(r.Specs, 2) }, nil, frames.Forbidden, "submit-batch", false},
		"a large spec":       {func(r *frames.Request) { *r = *p.request("", run("x", strings.Repeat("x", 70<<10))) }, nil, frames.TooLarge, "specs[0]: the spec takes", false},
		"a key used before":  {func(r *frames.Request) { r.Key = "used" }, nil, frames.Conflict, "another submission", false},
		"no leader":          {nil, fail(ErrNoLeader), frames.Unavailable, "no leader", true},
		"an unknown outcome": {nil, fail(ErrUnknownOutcome), frames.Unavailable, "did not say in time", true},
		"an overload":        {nil, fail(ErrOverloaded), frames.Overloaded, "too much", true},
		"a bug":              {nil, fail(errors.New("a secret")), frames.Internal, "its log says why", false},
		"no audit":           {nil, func() { h.audit.broken = errors.New("disk full") }, frames.Unavailable, "audit", true},
	} {
		t.Run(name, func(t *testing.T) {
			h.backend.mu.Lock()
			h.backend.fail = nil
			h.backend.mu.Unlock()
			h.audit.mu.Lock()
			h.audit.broken = nil
			if c.before != nil {
				c.before()
			}
			h.audit.mu.Unlock()
			r := p.request("", run("second"))
			if c.change != nil {
				c.change(r)
			}
			a := p.ask(r)
			if a.Code != c.code || !strings.Contains(a.Detail, c.detail) || (a.RetryAfterMS > 0) != c.retry || a.First != 0 {
				t.Errorf("%+v", a)
			}
		})
	}
	if n := len(h.backend.state.List(fsm.Filter{})); n != 1 {
		t.Errorf("%d tasks were made", n)
	}
}

func TestFastQueueFullAndRates(t *testing.T) {
	h := newFastHarness(t, func(c *Config) { c.Limits.RatePerSecond, c.Limits.Burst = 0.001, 1000 })
	h.backend.state = fsm.New(fsm.Limits{QueueBound: 2})
	p := h.login("ann:operator")
	if a := p.ask(p.request("", run("a"), run("b"), run("c"))); a.Code != frames.QueueFull || a.RetryAfterMS == 0 {
		t.Errorf("%+v", a)
	}
	if a := p.ask(p.request("", slices.Repeat([]client.TaskSpec{run("a")}, 998)...)); a.Code != frames.RateLimited || a.RetryAfterMS == 0 {
		t.Errorf("beyond the burst: %+v", a)
	}
	if a := p.ask(p.request("", run("a"))); a.Code != frames.OK {
		t.Errorf("what the burst still has: %+v", a)
	}
}

// guards P8
func TestFastHellos(t *testing.T) {
	h := newFastHarness(t, func(c *Config) { c.Limits.LongInFlight = 1 })
	for name, c := range map[string]struct {
		hello frames.Hello
		code  frames.Code
	}{
		"no token":        {frames.Hello{Version: 1}, frames.Unauthenticated},
		"a bad token":     {frames.Hello{Version: 1, Token: "nonsense"}, frames.Unauthenticated},
		"an expired one":  {frames.Hello{Version: 1, Token: "expired"}, frames.TokenExpired},
		"many failures":   {frames.Hello{Version: 1, Token: "often"}, frames.RateLimited},
		"a low role":      {frames.Hello{Version: 1, Token: "ann:viewer"}, frames.Forbidden},
		"no version":      {frames.Hello{Token: "ann:submitter"}, frames.Invalid},
		"a later version": {frames.Hello{Version: 7, Token: "ann:submitter"}, frames.OK},
	} {
		t.Run(name, func(t *testing.T) {
			p, w := h.dial(c.hello)
			if w.Code != c.code || (w.Detail == "") != (c.code == frames.OK) || (w.InFlight > 0) != (c.code == frames.OK) {
				t.Errorf("%+v", w)
			}
			p.conn.Close()
			if err := p.wait(); (err == nil) != (c.code == frames.OK) {
				t.Errorf("ended with %v", err)
			}
		})
	}
	p := h.login("ann:submitter")
	if _, w := h.dial(frames.Hello{Version: 1, Token: "ann:submitter"}); w.Code != frames.Overloaded {
		t.Errorf("a session too many: %+v", w)
	}
	if a := p.ask(p.request("", run("true"))); a.Code != 0 {
		t.Error(a)
	}
	notes := strings.Join(h.audit.all(), "\n")
	for _, want := range []string{" rpc refused unauthenticated", " rpc refused token_expired", "token:ann submit-task refused forbidden"} {
		if !strings.Contains(notes, want) {
			t.Errorf("not in the audit: %s\n%s", want, notes)
		}
	}
}

// What came before a fault is served, the fault is told, and the session ends.
func TestFastMalformedFrames(t *testing.T) {
	for name, bad := range map[string][]byte{
		"no CBOR":       {0, 0, 0, 2, 0xff, 0xff},
		"another type":  {0, 0, 0, 1, 0x01},
		"a long header": {0xff, 0xff, 0xff, 0xff},
		"empty":         {0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFastHarness(t, nil)
			p := h.login("ann:submitter")
			good, err := frames.Append(nil, p.request("", run("true")))
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = p.conn.Write(append(good, bad...)) }()
			var a frames.Answer
			if p.read(&a); a.Number != 1 || a.First == 0 {
				t.Fatalf("%+v", a)
			}
			a = frames.Answer{}
			if p.read(&a); a.Number != 0 || a.Code != frames.Invalid || a.Detail == "" {
				t.Errorf("%+v", a)
			}
			if err := p.wait(); err == nil {
				t.Error("the session ended without an error")
			}
		})
	}
}

// revocable lets tests take tokens back.
type revocable struct {
	words
	mu      sync.Mutex
	revoked bool
}

func (r *revocable) set() { r.mu.Lock(); r.revoked = true; r.mu.Unlock() }

func (r *revocable) Authenticate(q *http.Request) (string, fsm.Role, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked {
		return "", 0, errors.New("the token was revoked")
	}
	return r.words.Authenticate(q)
}

// guards P8: a session does not outlive its token, asked or idle.
func TestFastRevokedToken(t *testing.T) {
	for _, idle := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			auth := &revocable{}
			h := newFastHarness(t, func(c *Config) { c.Authenticator = auth })
			p := h.login("ann:submitter")
			if a := p.ask(p.request("", run("true"))); a.Code != 0 {
				t.Fatal(a)
			}
			auth.set()
			if !idle {
				if a := p.ask(p.request("", run("true"))); a.Code != frames.Unauthenticated {
					t.Fatalf("%+v", a)
				}
			}
			var a frames.Answer
			if p.read(&a); a.Number != 0 || a.Code != frames.Unauthenticated {
				t.Errorf("%+v", a)
			}
			if err := p.wait(); err == nil || !strings.Contains(err.Error(), "revoked") {
				t.Error(err)
			}
			if n := len(h.backend.state.List(fsm.Filter{})); n != 1 {
				t.Errorf("%d tasks", n)
			}
		})
	}
}

// guards P10: a client that reads nothing holds a bounded number of requests,
// and its session ends.
func TestFastSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFastHarness(t, func(c *Config) { c.Limits.FastInFlight = groupLines })
		p := h.login("ann:submitter")
		started := time.Now()
		written := 0
		for { // into the pipe: each write returns once it was read
			b, err := frames.Append(nil, p.request("", run("true")))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.conn.Write(b); err != nil {
				break
			}
			written++
		}
		if err := p.wait(); err == nil || time.Since(started) > time.Minute {
			t.Errorf("ended with %v after %v", err, time.Since(started))
		}
		if n := len(h.backend.state.List(fsm.Filter{})); n > groupLines || written > n+1+fastBuffer/40 {
			t.Errorf("%d tasks were made of %d requests", n, written)
		}
	})
}

func TestFastEnds(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newFastHarness(t, nil).login("ann:submitter")
			var a frames.Answer
			if p.read(&a); a.Number != 0 || a.Code != frames.Unavailable {
				t.Errorf("%+v", a)
			}
		})
	})
	t.Run("silent hello", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newFastHarness(t, nil).serve(net.Pipe())
			var w frames.Welcome
			if p.read(&w); w.Code != frames.Invalid {
				t.Errorf("%+v", w)
			}
		})
	})
	t.Run("the node stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newFastHarness(t, nil)
			h.backend.hold = make(chan struct{})
			p := h.login("ann:submitter")
			p.send(p.request("", run("true")))
			synctest.Wait()
			started := time.Now()
			p.cancel()
			if err := p.wait(); !errors.Is(err, context.Canceled) || time.Since(started) > 0 {
				t.Errorf("%v after %v", err, time.Since(started))
			}
			close(h.backend.hold)
		})
	})
	// A client that has said all it has to say still gets its answers.
	t.Run("half closed", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		here, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		there, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h := newFastHarness(t, nil)
		h.backend.hold = make(chan struct{})
		p := h.serve(here, there)
		p.send(frames.Hello{Version: 1, Token: "ann:submitter"})
		var w frames.Welcome
		p.read(&w)
		p.send(p.request("", run("true")), p.request("", run("false")))
		if err := here.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		close(h.backend.hold)
		for range 2 {
			var a frames.Answer
			if p.read(&a); a.First == 0 {
				t.Errorf("%+v", a)
			}
		}
		if err := p.in.Next(&w); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if err := p.wait(); err != nil {
			t.Error(err)
		}
	})
}

// fragile is a Policy with a bug.
type fragile struct{ ladder }

func (f fragile) Decide(action string, role fsm.Role) (bool, bool) {
	if action == "submit-batch" && role == fsm.RoleAdmin {
		panic("a bug")
	}
	return f.ladder.Decide(action, role)
}

// A panic ends its own session, whose writer with it, and no other.
func TestFastPanics(t *testing.T) {
	h := newFastHarness(t, func(c *Config) { c.Policy = fragile{ladder{"submit-task": 2}} })
	other, p := h.login("bob:submitter"), h.login("ann:admin")
	p.send(p.request("", run("a"), run("b")))
	if err := p.wait(); err == nil || !strings.Contains(err.Error(), "panicked") {
		t.Error(err)
	}
	if a := other.ask(other.request("", run("true"))); a.Code != 0 {
		t.Errorf("%+v", a)
	}
	eventually(t, "the audit's claims are used", func() bool {
		h.audit.mu.Lock()
		defer h.audit.mu.Unlock()
		return h.audit.pending == 0
	})
}

// guards P10: nobody holds much of a node before it is known who it is.
func TestFastLargeHello(t *testing.T) {
	h := newFastHarness(t, nil)
	p := h.serve(net.Pipe())
	if _, err := p.conn.Write([]byte{0, 1, 0, 0}); err != nil { // 64 KiB will come
		t.Fatal(err)
	}
	var w frames.Welcome
	if p.read(&w); w.Code != frames.Invalid {
		t.Errorf("%+v", w)
	}
}

// A flush is one record, whatever became of its requests.
func TestFastAudit(t *testing.T) {
	h := newFastHarness(t, nil)
	p := h.login("ann:submitter")
	h.backend.hold = make(chan struct{})
	var all []any
	for i := range 12 {
		r := p.request("", run("true"))
		if i%4 == 3 {
			r.Method = 9
		}
		all = append(all, r)
	}
	p.send(all...)
	close(h.backend.hold)
	for range all {
		var a frames.Answer
		p.read(&a)
	}
	eventually(t, "the record", func() bool { return len(h.audit.all()) == 2 })
	lines := h.audit.all()
	if lines[0] != "token:ann submit-batch refused invalid" && lines[0] != "token:ann submit-task refused invalid" || !strings.HasSuffix(lines[1], " ok") {
		t.Error(lines)
	}
	var spans taskSpans
	for i := range 100 {
		spans.add(fsm.TaskID(1000-7*i), 2)
	}
	if got := spans.String(); got != "200 of t307..t1001" {
		t.Error(got)
	}
	var few taskSpans
	for _, id := range []fsm.TaskID{5, 6, 9, 7} {
		few.add(id, 1)
	}
	if got := few.String(); got != "t5..t6,t9,t7" {
		t.Error(got)
	}
}

// Frames of any cut arrive whole, and the buffer does not stay large.
func TestFastReader(t *testing.T) {
	var stream []byte
	var want []int
	for i := range 300 {
		n := (i * 7919) % 3000
		if i == 150 {
			n = 2 << 20
		}
		b := make([]byte, n+4)
		b[0], b[1], b[2], b[3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
		stream, want = append(stream, b...), append(want, n+4)
	}
	for _, cut := range []int{1, 3, 1000, 1 << 20} {
		r := fastReader{r: &cutter{b: stream, cut: cut}, most: frames.MaxFrame}
		if cut < 1000 {
			r.r = &cutter{b: stream[:200_000], cut: cut}
		}
		for i := 0; ; i++ {
			frame, err := r.next()
			if errors.Is(err, io.EOF) && i == len(want) || cut < 1000 && errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil || len(frame) != want[i] {
				t.Fatalf("cut %d, frame %d: %d bytes, want %d, %v", cut, i, len(frame), want[i], err)
			}
		}
		if len(r.buf) > fastKept && cut >= 1000 {
			t.Errorf("%d bytes are kept", len(r.buf))
		}
	}
}

type cutter struct {
	b   []byte
	cut int
}

func (c *cutter) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.b[:min(c.cut, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}
