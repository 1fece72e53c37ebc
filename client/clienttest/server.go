package clienttest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/client"
)

// AdminToken is the token that a new Server knows.
const AdminToken = "hf_admin_0123456789abcdef"

// Server is a cluster of n addresses with one state.
type Server struct {
	CA *CA

	nodes []*httptest.Server
	unix  *http.Server
	stop  context.CancelFunc
	ctx   context.Context

	mu       sync.Mutex
	cond     *sync.Cond
	index    uint64
	tasks    []*task             // by number, from 1
	requests map[string][]string // idempotency key to the IDs that it made
	tokens   []client.NewToken
	drained  map[string]bool
	removed  map[string]bool
	leader   int
	snapshot []byte
	faults   []*Fault
	log      []Request
	clock    time.Time
}

// Request is one request as the server got it.
type Request struct {
	Node           int
	Method, Path   string
	Query          string
	IdempotencyKey string
	FirstLine      string
	UserAgent      string
}

// Fault makes requests fail. Zero fields match every request.
type Fault struct {
	Node       int    // 1 is the first address; 0 any
	Path       string // prefix
	Times      int    // how often, then no more
	Status     int    // 0: break the connection
	RetryAfter string
	AfterBytes int  // of the answer's body; breaks the connection then
	AfterApply bool // let the request take effect first
}

// Start runs a cluster of n addresses on loopback. Close it.
func Start(n int) (*Server, error) {
	ca, err := NewCA()
	if err != nil {
		return nil, err
	}
	s := &Server{CA: ca, requests: map[string][]string{}, drained: map[string]bool{}, removed: map[string]bool{},
		clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), index: 10}
	s.cond = sync.NewCond(&s.mu)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.tokens = []client.NewToken{{Token: client.Token{ID: "admin", Name: "first", Role: "admin", CreatedAt: s.clock}, Secret: AdminToken}}
	for i := range n {
		cert, err := ca.Issue("spiffe://test/node/" + nodeID(i))
		if err != nil {
			s.Close()
			return nil, err
		}
		h := httptest.NewUnstartedServer(s.handler(i, false))
		h.EnableHTTP2 = true
		h.Config.ErrorLog = log.New(io.Discard, "", 0)
		h.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
		h.StartTLS()
		s.nodes = append(s.nodes, h)
	}
	return s, nil
}

// ListenUnix serves the API on a unix socket too, without tokens.
func (s *Server) ListenUnix(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.unix = &http.Server{Handler: s.handler(0, true), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.unix.Serve(ln) }() // ends with Close
	return nil
}

// Close ends every request and listener.
func (s *Server) Close() {
	s.stop()
	s.wake()
	if s.unix != nil {
		s.unix.Close()
	}
	for _, n := range s.nodes {
		n.CloseClientConnections()
		n.Close()
	}
}

// Addrs are the nodes' addresses, host:port.
func (s *Server) Addrs() []string {
	var out []string
	for _, n := range s.nodes {
		out = append(out, n.Listener.Addr().String())
	}
	return out
}

// Config is a client's configuration for this cluster.
func (s *Server) Config() client.Config {
	return client.Config{Addrs: s.Addrs(), Token: AdminToken, CAPin: s.CA.Pin()}
}

// Inject adds a fault.
func (s *Server) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Requests returns every request so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.log...)
}

// Tasks returns how many tasks were ever accepted.
func (s *Server) Tasks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tasks)
}

func (s *Server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cond.Broadcast()
}

// wait blocks until ok, ctx's end or the server's. Caller holds mu.
func (s *Server) wait(ctx context.Context, ok func() bool) bool {
	stop := context.AfterFunc(ctx, s.wake)
	defer stop()
	for !ok() {
		if ctx.Err() != nil || s.ctx.Err() != nil {
			return false
		}
		s.cond.Wait()
	}
	return true
}

// changed steps the index and wakes waiters. Caller holds mu.
func (s *Server) changed() uint64 {
	s.index++
	s.clock = s.clock.Add(time.Second)
	s.cond.Broadcast()
	return s.index
}

func (s *Server) handler(node int, local bool) http.Handler {
	mux := s.routes(node)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.log = append(s.log, Request{node + 1, r.Method, r.URL.Path, r.URL.RawQuery,
			r.Header.Get("Idempotency-Key"), r.Header.Get("Holdfast-First-Line"), r.UserAgent()})
		f := s.takeFault(node, r.URL.Path)
		known := local || s.knows(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		w.Header().Set("Holdfast-Index", strconv.FormatUint(s.index, 10))
		s.mu.Unlock()
		switch {
		case f != nil && f.AfterApply:
			mux.ServeHTTP(httptest.NewRecorder(), r)
			fail(w, f)
		case f != nil && f.AfterBytes > 0:
			mux.ServeHTTP(&breakingWriter{w, f.AfterBytes}, r)
		case f != nil:
			fail(w, f)
		case !known:
			problem(w, 401, client.CodeUnauthenticated, "Unauthenticated", "the token is unknown")
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (s *Server) knows(token string) bool {
	for _, t := range s.tokens {
		if t.Secret == token && t.Role != "node" {
			return true
		}
	}
	return false
}

func (s *Server) takeFault(node int, path string) *Fault {
	for _, f := range s.faults {
		if f.Times > 0 && (f.Node == 0 || f.Node == node+1) && strings.HasPrefix(path, f.Path) {
			f.Times--
			return f
		}
	}
	return nil
}

func fail(w http.ResponseWriter, f *Fault) {
	if f.Status == 0 {
		panic(http.ErrAbortHandler) // net/http's way to break a connection
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	codes := map[int]string{429: client.CodeQueueFull, 503: client.CodeUnavailable, 403: client.CodeForbidden}
	problem(w, f.Status, codes[f.Status], http.StatusText(f.Status), "injected")
}

// breakingWriter breaks the connection after left bytes of the body.
type breakingWriter struct {
	http.ResponseWriter
	left int
}

func (b *breakingWriter) Write(p []byte) (int, error) {
	if len(p) < b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left])
	b.Flush()
	panic(http.ErrAbortHandler)
}

func (b *breakingWriter) Flush() { b.ResponseWriter.(http.Flusher).Flush() }

func problem(w http.ResponseWriter, status int, code, title, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(client.Problem{Type: client.ProblemPrefix + code, Title: title, Status: status, Detail: detail})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func nodeID(i int) string { return "node" + strconv.Itoa(i+1) }
