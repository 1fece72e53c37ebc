package dispatch

import (
	"context"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// State is what the hub reads; *fsm.State is one.
type State interface {
	Node(fsm.NodeID) (fsm.NodeView, bool)
	Running(fsm.NodeID) []fsm.Assignment
	Task(fsm.TaskID) (*fsm.TaskView, bool)
}

// Leases is the leader's lease table; *lease.Keeper is one.
type Leases interface {
	Duration() time.Duration
	// Heard records a renewal; false means that it must not be acknowledged.
	Heard(node fsm.NodeID, incarnation uint64) bool
}

// Config is what a Hub needs. All fields but the last two are required.
type Config struct {
	State  State
	Leases Leases
	// Propose commits commands, waits until they are applied here, and returns
	// their results in order.
	Propose func(ctx context.Context, commands [][]byte) ([]fsm.Result, error)
	// Verify returns nil if a majority followed this leader in its term at some
	// moment after the call.
	Verify func(ctx context.Context) error
	// Reported is called after reports were committed: they free capacity, also
	// where no task changes, which the scheduler cannot see otherwise. It must
	// not block; nil = nobody cares.
	Reported   func()
	Logger     hclog.Logger
	Registerer prometheus.Registerer // nil = no metrics
}

// Hub serves the workers' sessions while this node leads.
type Hub struct {
	cfg      Config
	metrics  metrics
	verifier *verifier

	mu       sync.Mutex
	office   context.Context // nil = not leading
	term     uint64
	sessions map[fsm.NodeID]*session
}

// New makes a Hub that refuses everybody until Lead.
func New(cfg Config) *Hub {
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Reported == nil {
		cfg.Reported = func() {}
	}
	return &Hub{cfg: cfg, metrics: newMetrics(cfg.Registerer), sessions: map[fsm.NodeID]*session{},
		verifier: newVerifier(cfg.Verify)}
}

// Lead serves sessions for one office until ctx ends. Call it when everything
// that was committed before the office has been applied here.
func (h *Hub) Lead(ctx context.Context, term uint64) {
	h.mu.Lock()
	h.office, h.term = ctx, term
	h.mu.Unlock()

	<-ctx.Done()
	h.mu.Lock()
	h.office = nil
	sessions := h.sessions
	h.sessions = map[fsm.NodeID]*session{}
	h.mu.Unlock()
	for _, s := range sessions {
		s.end(&protocol.Refuse{Code: protocol.RefuseNotLeader, Detail: "this node no longer leads"})
	}
}

// Notify passes changes of the state on to the sessions they concern, in
// order. It never blocks.
func (h *Hub) Notify(changes []fsm.Change) {
	h.mu.Lock()
	if h.office == nil || len(h.sessions) == 0 {
		h.mu.Unlock()
		return
	}
	// Changes come in batches of thousands and go to few sessions.
	bySession := map[*session][]fsm.Change{}
	for _, c := range changes {
		switch c.Kind {
		case fsm.ChangeAssigned, fsm.ChangeRevoked, fsm.ChangeNode:
			if s := h.sessions[c.Node]; s != nil {
				bySession[s] = append(bySession[s], c)
			}
		}
	}
	h.mu.Unlock()
	for s, mine := range bySession {
		s.notify(mine)
	}
}

// Restored ends every session: the state was replaced as a whole, and no
// change tells of it. The workers come back at once and are told what counts
// now. It never blocks.
func (h *Hub) Restored() {
	h.mu.Lock()
	sessions := slices.Collect(maps.Values(h.sessions))
	h.mu.Unlock()
	for _, s := range sessions {
		s.end(&protocol.Refuse{Code: protocol.RefuseBusy, Detail: "the state was replaced: begin again"})
	}
}

// Connected reports whether a worker has a session here now.
func (h *Hub) Connected(node fsm.NodeID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions[node] != nil
}

// Serve serves one stream until it ends, ctx ends, or the office does; it
// closes the stream. Peer is the node that the stream's certificate names. The
// stream's Close must end reads and writes in progress.
func (h *Hub) Serve(ctx context.Context, peer fsm.NodeID, stream io.ReadWriteCloser) error {
	s := newSession(h, peer, stream)
	return s.serve(ctx)
}

// leading returns the office's context and term, nil if there is none.
func (h *Hub) leading() (context.Context, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.office, h.term
}

// enter makes s the session of its worker, in place of an earlier one, unless
// the office that it began in is over.
func (h *Hub) enter(s *session, office context.Context) bool {
	h.mu.Lock()
	if h.office != office || office.Err() != nil {
		h.mu.Unlock()
		return false
	}
	old := h.sessions[s.peer]
	h.sessions[s.peer] = s
	h.metrics.sessions.Set(float64(len(h.sessions)))
	h.mu.Unlock()
	if old != nil {
		old.end(&protocol.Refuse{Code: protocol.RefuseProtocol, Detail: "the worker opened another session"})
	}
	return true
}

func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.peer] == s {
		delete(h.sessions, s.peer)
	}
	h.metrics.sessions.Set(float64(len(h.sessions)))
}

type metrics struct {
	sessions         prometheus.Gauge
	renewals, denied prometheus.Counter
	reports          prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_dispatch_sessions", Help: "Workers with a session to this leader."}),
		renewals: counter("holdfast_dispatch_renewals_total", "Renewals acknowledged."),
		denied:   counter("holdfast_dispatch_renewals_denied_total", "Renewals not acknowledged, because leadership or the worker's life was in doubt."),
		reports:  counter("holdfast_dispatch_reports_total", "Attempts' ends committed or superseded."),
	}
	if reg != nil {
		reg.MustRegister(m.sessions, m.renewals, m.denied, m.reports)
	}
	return m
}
