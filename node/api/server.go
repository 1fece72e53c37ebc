package api

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/client"
)

// bodyDrain bounds how long net/http may read what a handler left of a body:
// it does so without a deadline of its own.
const bodyDrain = 2 * time.Second

// Server is the API of one node: an http.Handler, and ServeFast for the
// pipelined RPC.
type Server struct{ *server }

type server struct {
	cfg     Config
	limits  Limits
	mux     *http.ServeMux
	huma    huma.API
	metrics *metrics
	rates   *rates
	short   slots
	long    slots
	public  map[string]bool // paths that need no credential, for GET and HEAD
	unknown *opState        // requests that found no operation
	next    atomic.Uint64
	openAPI [2]document // JSON and YAML
	fastOps [2]*fastOp  // of one task and of many
	submit  uint8       // version of the command
}

// New makes the whole API. It registers its metrics, and fails if the
// configuration lacks something.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &server{
		cfg:    cfg,
		limits: cfg.Limits,
		mux:    http.NewServeMux(),
		rates:  newRates(cfg.Limits),
		short:  slots{most: int64(cfg.Limits.InFlight)},
		long:   slots{most: int64(cfg.Limits.LongInFlight)},
		public: map[string]bool{},
	}
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("api: register metrics: %w", err)
	}
	s.huma = newHuma(s.mux, cfg.Version)
	s.registerTasks()
	s.registerReads()
	s.registerStream()
	s.registerOutput()
	s.registerNodes()
	s.registerCluster()
	s.registerTokens()
	s.registerSystem()
	s.unknown = &opState{metrics: s.metrics.of("unknown")}
	s.mux.HandleFunc("/", s.notFound)
	for i, id := range []string{"submit-task", "submit-batch"} {
		s.fastOps[i] = &fastOp{id: id, metrics: s.metrics.of("rpc-" + id)}
	}
	if s.submit, err = submitVersion(); err != nil {
		return nil, err
	}
	return &Server{s}, s.describe()
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{
		id: s.next.Add(1), started: s.cfg.Now(), source: r.RemoteAddr, op: s.unknown,
		w: &response{ResponseWriter: w, rc: http.NewResponseController(w), now: s.cfg.Now, timeout: s.limits.WriteTimeout},
	}
	c.r = r.WithContext(withCall(r.Context(), c))
	defer s.finish(c)
	w.Header().Set("Cache-Control", "no-store") // nothing here is for a proxy to keep
	if !s.short.enter() {
		c.refuse(newProblem(client.CodeOverloaded, "this node has %d requests in hand: try again, or try another node", s.limits.InFlight))
		return
	}
	defer func() { s.slots(c).leave() }()
	if p := s.admit(c); p != nil {
		c.refuse(p)
		return
	}
	s.mux.ServeHTTP(c.w, c.r)
}

func (s *server) slots(c *call) *slots {
	if c.long {
		return &s.long
	}
	return &s.short
}

// admit checks what needs no operation: the URL, the credential, the rate.
func (s *server) admit(c *call) *problem {
	u := c.r.URL
	if len(u.Path)+len(u.RawQuery) > s.limits.MaxURLBytes {
		return newProblem(client.CodeTooLarge, "the URL is longer than %d bytes", s.limits.MaxURLBytes).withStatus(http.StatusRequestURITooLong)
	}
	if s.public[u.Path] && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead) {
		return nil
	}
	principal, role, err := s.cfg.Authenticator.Authenticate(c.r)
	if err != nil {
		return s.unauthenticated(c, err)
	}
	c.principal, c.role = principal, role
	// The mux would answer an unclean path with a redirect in HTML.
	if u.Path == "" || u.Path[0] != '/' || path.Clean(u.Path) != u.Path {
		return newProblem(client.CodeNotFound, "no such path")
	}
	if ok, retry := s.rates.take(principal, 1, c.started); !ok {
		return s.rateLimited(retry)
	}
	return nil
}

func (s *server) rateLimited(retry time.Duration) *problem {
	p := newProblem(client.CodeRateLimited, "%g requests or tasks a second are the most for one principal on one node: slow down, or use more nodes", s.limits.RatePerSecond)
	p.retryAfter = retry
	return p
}

func (s *server) unauthenticated(c *call, err error) *problem {
	p, note := authProblem(err)
	if note {
		s.cfg.Audit.Note("", c.source, c.r.Method+" "+c.r.URL.Path, "", p.code())
	}
	return p
}

// authProblem is what the caller sees of an Authenticator's error. Those
// beyond the limit of failures are not audited: the failures that used it up
// were.
func authProblem(err error) (p *problem, note bool) {
	var wait interface {
		error
		RetryAfter() time.Duration
	}
	if errors.As(err, &wait) {
		p = newProblem(client.CodeRateLimited, "%s: wait, and check the token", err)
		p.retryAfter = wait.RetryAfter()
		return p, false
	}
	if errors.Is(err, ErrNoLeader) { // the state here may lack the token
		return asProblem(err), false
	}
	code := client.CodeUnauthenticated
	var old interface {
		error
		Expired() bool
	}
	if errors.As(err, &old) && old.Expired() {
		code = client.CodeTokenExpired
	}
	return newProblem(code, "%s", err), true
}

// notFound answers what no operation matches.
func (s *server) notFound(w http.ResponseWriter, r *http.Request) {
	c := callOf(r.Context())
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		c.refuse(newProblem(client.CodeNotFound, "no such path: GET /openapi.json lists them"))
		return
	}
	for _, m := range allowed {
		w.Header().Add("Allow", m)
	}
	c.refuse(newProblem(client.CodeInvalid, "the path does not take %s", r.Method).withStatus(http.StatusMethodNotAllowed))
}

// refuse answers outside of huma.
func (c *call) refuse(p *problem) { p.write(c.w) }

// finish ends every request: panics, metrics and the log.
func (s *server) finish(c *call) {
	abort := false
	if v := recover(); v != nil {
		switch {
		case v == http.ErrAbortHandler:
			abort = true
		case c.w.failed:
			abort = true // huma panics when a caller is gone; that is no fault of ours
		default:
			s.metrics.panics.Inc()
			s.cfg.Logger.Error("a request panicked", "request", c.id, "operation", c.op.id, "panic", v, "stack", string(debug.Stack()))
			if abort = c.w.status != 0; !abort {
				c.refuse(newProblem(client.CodeInternal, "the node failed to do this; its log has it under request %d", c.id))
			}
		}
	}
	if c.r.Body != nil && c.r.Body != http.NoBody {
		_ = c.w.rc.SetReadDeadline(s.cfg.Now().Add(min(bodyDrain, s.limits.BodyTimeout))) // HTTP/3 has none, and needs none
	}
	took := s.cfg.Now().Sub(c.started)
	c.op.metrics.observe(c.w.status, took)
	if s.cfg.Logger.IsDebug() {
		s.cfg.Logger.Debug("request", "request", c.id, "operation", c.op.id, "principal", c.principal,
			"source", c.source, "status", c.w.status, "took", took)
	}
	if abort {
		// Cuts the connection, so that the caller knows that the answer is
		// not whole.
		panic(http.ErrAbortHandler)
	}
}
