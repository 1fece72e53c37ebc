package workload

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/chaos/history"
	"holdfast/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a load on a cluster in memory.
type rig struct {
	*Load
	t   *testing.T
	srv *clienttest.Server
	out locked
}

// locked is a buffer that is read while it is written to.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *locked) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

func newRig(t *testing.T, nodes int, change func(*Config)) *rig {
	t.Helper()
	srv, err := clienttest.Start(nodes)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, srv: srv}
	cfg := Config{Token: clienttest.AdminToken, CAPin: srv.CA.Pin(), Writer: history.NewWriter(&r.out, history.Since(time.Now())), Seed: 1}
	for i, addr := range srv.Addrs() {
		cfg.Nodes = append(cfg.Nodes, Target{fmt.Sprint("n", i+1), fmt.Sprint("id", i+1), addr})
	}
	if change != nil {
		change(&cfg)
	}
	if r.Load, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); srv.Close() })
	return r
}

// client is a recording client that tries so often.
func (r *rig) client(tries int) *session {
	r.t.Helper()
	s, err := r.newSession(7, r.cfg.Nodes, tries, time.Second, 5*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(s.cl.Close)
	return s
}

func (r *rig) events() []history.Event {
	r.t.Helper()
	if err := r.cfg.Writer.Flush(); err != nil {
		r.t.Fatal(err)
	}
	var out []history.Event
	for e, err := range history.Events(bytes.NewReader(r.out.bytes()), new(history.Torn)) {
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, *e)
	}
	return out
}

func TestRecordedOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		tries int
		fault *clienttest.Fault
		want  history.Kind
		code  string
		made  int
	}{
		"answered":                        {1, nil, history.OK, "", 1},
		"refused":                         {1, &clienttest.Fault{Times: 1, Status: 429}, history.Refused, "queue_full", 0},
		"broken before it took effect":    {1, &clienttest.Fault{Times: 1}, history.Unknown, "", 0},
		"broken after it took effect":     {1, &clienttest.Fault{Times: 1, AfterApply: true}, history.Unknown, "", 1},
		"broken, and answered elsewhere":  {3, &clienttest.Fault{Times: 1, AfterApply: true}, history.OK, "", 1},
		"the answer breaks off":           {1, &clienttest.Fault{Times: 1, AfterBytes: 5}, history.Unknown, "", 1},
		"refused as if nothing, but not":  {1, &clienttest.Fault{Times: 1, Status: 503, AfterApply: true}, history.Unknown, "unavailable", 1},
		"refused definitely after a lost": {2, &clienttest.Fault{Times: 1, Status: 429}, history.OK, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2, nil)
			if c.fault != nil {
				c.fault.Path = "/v1/tasks"
				r.srv.Inject(*c.fault)
			}
			r.client(c.tries).submit(t.Context(), history.Submit, "k1", "n1", "cheap", 1)
			got := r.events()
			if len(got) != 2 || got[0].Kind != history.Invoke || got[0].ID != got[1].ID || got[0].Rules == nil || got[1].Rules != nil {
				t.Fatalf("recorded %+v", got)
			}
			if e := got[1]; e.Kind != c.want || e.Code != c.code || (e.Kind == history.OK) != (e.Task == "t1") || (e.Kind == history.OK) != (e.Error == "") {
				t.Errorf("recorded %+v, want %s %q", e, c.want, c.code)
			}
			if r.srv.Tasks() != c.made {
				t.Errorf("%d tasks were made, want %d", r.srv.Tasks(), c.made)
			}
		})
	}
}

func TestGivenUpIsUnknown(t *testing.T) {
	r := newRig(t, 1, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.client(3).submit(ctx, history.Submit, "k1", "n1", "cheap", 1)
	if e := r.events()[1]; e.Kind != history.Unknown || e.Code != history.GivenUp {
		t.Errorf("recorded %+v", e)
	}
}

func TestBatchIsAllOrNone(t *testing.T) {
	r := newRig(t, 1, nil)
	s := r.client(1)
	r.srv.Inject(clienttest.Fault{Times: 1, Path: "/v1/tasks/batch", Status: 429})
	for range 2 {
		s.submit(t.Context(), history.Submit, s.key(), "n1", "cheap", 3)
	}
	var kinds []history.Kind
	names := map[string]bool{}
	for _, e := range r.events() {
		if e.Kind != history.Invoke {
			kinds = append(kinds, e.Kind)
			names[e.Key] = true
		}
	}
	want := slices.Concat(slices.Repeat([]history.Kind{history.Refused}, 3), slices.Repeat([]history.Kind{history.OK}, 3))
	if !slices.Equal(kinds, want) || len(names) != 6 {
		t.Errorf("recorded %v of %v, want %v", kinds, names, want)
	}
}

func TestSweepCoversEveryTask(t *testing.T) {
	r := newRig(t, 1, nil)
	s := r.client(1)
	for range 3 {
		s.submit(t.Context(), history.Submit, s.key(), "n1", "cheap", 300)
	}
	for r.sweep.page(t.Context()) {
	}
	s.submit(t.Context(), history.Submit, s.key(), "n1", "cheap", 1)
	r.sweep.page(t.Context())
	seen, next := map[string]bool{}, uint64(1)
	for _, e := range r.events() {
		if e.Op != history.List || e.Kind != history.OK {
			continue
		}
		if e.Cover.From > next {
			t.Errorf("a page from %d on leaves out %d", e.Cover.From, next)
		}
		if e.Cover.To != 0 {
			next = e.Cover.To + 1
		}
		for _, v := range e.Tasks {
			seen[v.Task] = true
			if n := number(v.Task); n < e.Cover.From || e.Cover.To != 0 && n > e.Cover.To {
				t.Errorf("%s is not in %+v", v.Task, *e.Cover)
			}
		}
	}
	if len(seen) != 901 {
		t.Errorf("%d tasks were swept, want 901", len(seen))
	}
}

// A node that never answers must not slow the beat.
func TestProberKeepsItsBeat(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // its backlog takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := newRig(t, 1, func(c *Config) {
		c.Clients, c.Rate = 1, 1000
		c.Mix = map[string]int{"get": 1}
		c.ProbeEvery, c.ProbeTimeout = 20*time.Millisecond, time.Second
		c.Nodes = append(c.Nodes, Target{"n2", "id2", silent.Addr().String()})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	deadline := time.After(20 * time.Second)
	probes := func(node string) (sent, ok int) {
		for _, e := range r.events() {
			if e.Op == history.Probe && e.Node == node {
				switch e.Kind {
				case history.Invoke:
					sent++
				case history.OK:
					ok++
				}
			}
		}
		return sent, ok
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, ok := probes("n1"); n >= 20 && ok >= 1 {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the prober does not probe")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	one, _ := probes("n1")
	two, ok := probes("n2")
	if two < one/2 || ok != 0 { // one after the other would be one in fifty
		t.Errorf("%d probes to the node that answers, %d to the one that does not, %d of them answered", one, two, ok)
	}
	open := map[int64]bool{}
	for _, e := range r.events() {
		switch e.Kind {
		case history.Invoke:
			open[e.ID] = true
		case history.OK, history.Refused, history.Unknown:
			delete(open, e.ID)
		}
	}
	if len(open) > 0 {
		t.Errorf("%d operations have no end after Run has returned", len(open))
	}
}
