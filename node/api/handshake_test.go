package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/client/clienttest"
	"holdfast/node/api"
)

// greeter serves HTTPS through the listener under test.
type greeter struct {
	addr     string
	registry *prometheus.Registry
	atOnce   atomic.Int32 // handshakes that computed at the same time, at most
	hold     atomic.Pointer[chan struct{}]
	held     chan struct{}
}

func greet(t *testing.T, limits api.Handshakes, curves ...tls.CurveID) *greeter {
	t.Helper()
	ca, err := clienttest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("")
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{registry: prometheus.NewRegistry(), held: make(chan struct{}, 16)}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = tcp.Addr().String()
	var computing atomic.Int32
	conf := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: curves,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			n := computing.Add(1)
			defer computing.Add(-1)
			for range 50 { // lets the others come
				runtime.Gosched()
				for old := g.atOnce.Load(); n > old && !g.atOnce.CompareAndSwap(old, n); old = g.atOnce.Load() {
				}
			}
			if c := g.hold.Load(); c != nil {
				g.held <- struct{}{}
				<-*c
			}
			return &cert, nil
		},
	}
	l, err := api.NewTLSListener(tcp, conf, limits, g.registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := api.NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }), nil, nil)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return g
}

// anybody trusts any server: these tests are about who is served, not by whom.
func anybody(curves ...tls.CurveID) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, CurvePreferences: curves}
}

// get asks once, over a connection of its own.
func (g *greeter) get(ctx context.Context, curves ...tls.CurveID) (string, error) {
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: anybody(curves...)}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+g.addr, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (g *greeter) outcomes(outcome string) float64 {
	families, err := g.registry.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		if f.GetName() != "holdfast_api_handshakes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// counts waits until so many handshakes have ended so: a client sees the end
// before it is counted.
func (g *greeter) counts(t *testing.T, outcome string, want float64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); g.outcomes(outcome) != want; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%v handshakes are counted as %s, want %v", g.outcomes(outcome), outcome, want)
		}
	}
}

// silent opens connections that say nothing.
func (g *greeter) silent(t *testing.T, n int) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// guards P10: a herd computes a bounded number of handshakes at a time, clients
// that say nothing give way, and everybody honest is served.
func TestHerdOfHandshakes(t *testing.T) {
	g := greet(t, api.Handshakes{AtOnce: 1, Pending: 40, Grace: 200 * time.Millisecond, Silence: time.Minute, Patience: time.Minute})
	g.silent(t, 100) // more than there are places
	var herd sync.WaitGroup
	for range 150 {
		herd.Go(func() {
			if got, err := g.get(t.Context()); err != nil || got != "HTTP/2.0" {
				t.Errorf("an honest client got %q, %v", got, err)
			}
		})
	}
	herd.Wait()
	if n := g.atOnce.Load(); n != 1 {
		t.Errorf("%d handshakes computed at once, want 1", n)
	}
	g.counts(t, "ok", 150)
	if ok, silent := g.outcomes("ok"), g.outcomes("silent"); ok != 150 || silent < 60 {
		t.Errorf("counted %v handshakes that are complete and %v silent ones, want 150 and at least 60", ok, silent)
	}
	if n := testutil.CollectAndCount(g.registry, "holdfast_api_handshakes_pending"); n != 1 {
		t.Error("nothing counts those that are pending")
	}
}

// deafConn shows when the server has spoken, and keeps that from its client.
type deafConn struct {
	net.Conn
	spoken chan struct{}
	once   sync.Once
	end    <-chan struct{}
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil {
		c.once.Do(func() { close(c.spoken) })
		<-c.end
	}
	return n, err
}

// A client that stops in the middle of its handshake holds nobody's turn.
func TestStalledHandshakeHoldsNoTurn(t *testing.T) {
	g := greet(t, api.Handshakes{AtOnce: 1, Silence: time.Minute})
	var stalled sync.WaitGroup
	end := make(chan struct{})
	defer stalled.Wait()
	defer close(end)
	for range 3 {
		raw, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := &deafConn{Conn: raw, spoken: make(chan struct{}), end: end}
		stalled.Go(func() {
			defer raw.Close()
			_ = tls.Client(c, anybody()).Handshake()
		})
		<-c.spoken
	}
	if _, err := g.get(t.Context()); err != nil {
		t.Error(err)
	}
}

// A client that must be asked for another key share computes in turn as well.
func TestSecondKeyShareWaitsForItsTurn(t *testing.T) {
	g := greet(t, api.Handshakes{AtOnce: 1}, tls.CurveP384)
	var herd sync.WaitGroup
	for range 40 {
		herd.Go(func() {
			if _, err := g.get(t.Context(), tls.X25519, tls.CurveP384); err != nil {
				t.Error(err)
			}
		})
	}
	herd.Wait()
	if n := g.atOnce.Load(); n != 1 {
		t.Errorf("%d handshakes computed at once, want 1", n)
	}
}

func TestHandshakeThatGetsNoTurn(t *testing.T) {
	g := greet(t, api.Handshakes{AtOnce: 1, Patience: time.Millisecond})
	hold := make(chan struct{})
	g.hold.Store(&hold)
	var first sync.WaitGroup
	first.Go(func() {
		if _, err := g.get(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-g.held
	if _, err := g.get(t.Context()); err == nil {
		t.Error("a second handshake went on while the only turn was taken")
	}
	g.counts(t, "busy", 1)
	g.hold.Store(nil)
	close(hold)
	first.Wait()
}

func TestPlainRequestIsAnswered(t *testing.T) {
	g := greet(t, api.Handshakes{})
	resp, err := http.Get("http://" + g.addr) //nolint:noctx // ends by itself
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(b), "HTTPS") {
		t.Errorf("%s: %s", resp.Status, b)
	}
}

func TestSilentClientTimesOut(t *testing.T) {
	g := greet(t, api.Handshakes{Silence: time.Millisecond})
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the end of a silent connection: %v", err)
	}
}
