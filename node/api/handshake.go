package api

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Handshakes bound what clients that connect can make a node do before they
// have said who they are. Zero fields take the default.
type Handshakes struct {
	// AtOnce is how many handshakes compute at a time: half of the processors,
	// at least one. A handshake is about a millisecond of computing; a thousand
	// goroutines that all can run would hold up raft's heartbeats for the time
	// of a thousand handshakes.
	AtOnce int
	// Pending (4,096) connections may be in their handshake. Beyond it the one
	// that has been silent for longest is closed, if that is longer than Grace
	// (500 ms: a round trip, and a node that is busy); the rest waits in the
	// kernel's queue.
	Pending int
	Grace   time.Duration
	// Silence (5 s) is what a client may take to send its first message, and
	// again for its answer to ours. Waiting for us is not counted.
	Silence time.Duration
	// Patience (10 s) is what a client waits for its turn: after that it has
	// gone, or should come again.
	Patience time.Duration
}

func (c *Handshakes) fill() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.AtOnce, max(1, runtime.GOMAXPROCS(0)/2))
	def(&c.Pending, 4096)
	if c.Grace <= 0 {
		c.Grace = 500 * time.Millisecond
	}
	if c.Silence <= 0 {
		c.Silence = 5 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = 10 * time.Second
	}
}

var errNoTurn = errors.New("too many handshakes wait for their turn")

// tlsListener hands on connections whose handshake is complete.
//
// A handshake holds a turn only while it computes: from the client's first
// message, which crypto/tls passes to GetConfigForClient, until it waits for
// the network again. So a silent client takes a place, but nobody's turn.
type tlsListener struct {
	net.Listener
	conf   *tls.Config
	limits Handshakes
	log    hclog.Logger
	turns  chan struct{}
	ready  chan accepted
	room   chan struct{} // capacity 1: a place is free again

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	group  sync.WaitGroup

	outcomes *prometheus.CounterVec
	gauge    prometheus.Gauge

	mu      sync.Mutex
	pending map[*handshaking]struct{}
	silent  list.List // of *handshaking, the oldest first
}

type accepted struct {
	conn net.Conn
	err  error
}

// handshaking is the socket beneath a *tls.Conn.
type handshaking struct {
	net.Conn
	l       *tlsListener
	at      time.Time
	turn    atomic.Bool
	failure atomic.Pointer[string] // the outcome, where it is not the client's fault

	place *list.Element // guarded by l.mu; nil once the client has spoken
}

// NewTLSListener serves TLS on l, for http.Server.Serve. Closing it ends the
// handshakes that are under way.
func NewTLSListener(l net.Listener, conf *tls.Config, limits Handshakes, registry prometheus.Registerer, logger hclog.Logger) (net.Listener, error) {
	limits.fill()
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	t := &tlsListener{
		Listener: l, conf: conf.Clone(), limits: limits, log: logger,
		turns: make(chan struct{}, limits.AtOnce), ready: make(chan accepted), room: make(chan struct{}, 1),
		pending: map[*handshaking]struct{}{},
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_api_handshakes_total",
			Help: "TLS handshakes of HTTPS clients that ended, by outcome."}, []string{"outcome"}),
		gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_api_handshakes_pending",
			Help: "HTTPS connections whose handshake is not complete."}),
	}
	if registry != nil {
		for _, c := range []prometheus.Collector{t.outcomes, t.gauge} {
			if err := registry.Register(c); err != nil {
				return nil, fmt.Errorf("register the metrics of handshakes: %w", err)
			}
		}
	}
	t.conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, h.Conn.(*handshaking).take()
	}
	if get := t.conf.GetCertificate; get != nil {
		// The turn is gone if the client had to be asked for another key share.
		t.conf.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if err := h.Conn.(*handshaking).take(); err != nil {
				return nil, err
			}
			return get(h)
		}
	}
	t.ctx, t.cancel = context.WithCancel(context.Background()) // the listener's own life
	t.group.Go(t.run)
	return t, nil
}

// Accept implements net.Listener.
func (l *tlsListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Connections that Accept has returned live on.
func (l *tlsListener) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.mu.Lock()
	for h := range l.pending {
		_ = h.Conn.Close()
	}
	l.mu.Unlock()
	l.group.Wait()
	return err
}

func (l *tlsListener) run() {
	for l.ctx.Err() == nil {
		c, err := l.Listener.Accept()
		if err != nil {
			l.deliver(nil, err) // http.Server pauses when descriptors are short, and asks again
			continue
		}
		h := &handshaking{Conn: c, l: l, at: time.Now()}
		if !l.enter(h) {
			_ = c.Close()
			return
		}
		l.group.Go(func() { l.serve(h) })
	}
}

func (l *tlsListener) deliver(c net.Conn, err error) bool {
	select {
	case l.ready <- accepted{c, err}:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// enter gives the connection a place, for which it may have to wait.
func (l *tlsListener) enter(h *handshaking) bool {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		entered, wait := l.tryEnter(h)
		if entered {
			return true
		}
		timer.Reset(wait)
		select {
		case <-l.room:
		case <-timer.C:
		case <-l.ctx.Done():
			return false
		}
	}
}

// tryEnter says how long until somebody else may have to give way.
func (l *tlsListener) tryEnter(h *handshaking) (bool, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false, time.Hour
	}
	if len(l.pending) < l.limits.Pending {
		l.pending[h] = struct{}{}
		h.place = l.silent.PushBack(h)
		l.gauge.Set(float64(len(l.pending)))
		return true, 0
	}
	e := l.silent.Front()
	if e == nil {
		return false, time.Hour
	}
	old := e.Value.(*handshaking)
	if left := l.limits.Grace - time.Since(old.at); left > 0 {
		return false, left
	}
	old.spokenLocked()
	old.fail("silent")
	_ = old.Conn.Close()
	return false, time.Hour // it leaves at once
}

func (l *tlsListener) leave(h *handshaking) {
	h.release()
	l.mu.Lock()
	h.spokenLocked()
	delete(l.pending, h)
	l.gauge.Set(float64(len(l.pending)))
	l.mu.Unlock()
	select {
	case l.room <- struct{}{}:
	default:
	}
}

func (l *tlsListener) serve(h *handshaking) {
	c := tls.Server(h, l.conf)
	_ = h.SetDeadline(time.Now().Add(l.limits.Silence)) // real time: deadlines of sockets are
	err := c.Handshake()
	if err == nil {
		err = h.SetDeadline(time.Time{})
	}
	l.leave(h)
	outcome := "ok"
	switch failure := h.failure.Load(); {
	case err == nil:
	case failure != nil:
		outcome = *failure
	case timedOut(err):
		outcome = "silent"
	default:
		outcome = "failed"
	}
	l.outcomes.WithLabelValues(outcome).Inc()
	if err != nil {
		l.log.Debug("TLS handshake failed", "source", h.RemoteAddr().String(), "error", err)
		answerPlain(err)
		_ = h.Conn.Close()
		return
	}
	if !l.deliver(c, nil) {
		_ = h.Conn.Close()
	}
}

func timedOut(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// answerPlain tells a client that forgot the s of https, as http.Server does.
func answerPlain(err error) {
	var re tls.RecordHeaderError
	if !errors.As(err, &re) || re.Conn == nil {
		return
	}
	switch string(re.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO":
		_, _ = io.WriteString(re.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
}

// take waits for a turn, unless the handshake has one.
func (h *handshaking) take() error {
	if h.turn.Load() {
		return nil
	}
	l := h.l
	l.mu.Lock()
	h.spokenLocked()
	l.mu.Unlock()
	select {
	case l.turns <- struct{}{}:
	default:
		patience := time.NewTimer(l.limits.Patience)
		defer patience.Stop()
		select {
		case l.turns <- struct{}{}:
		case <-patience.C:
			h.fail("busy")
			return errNoTurn
		case <-l.ctx.Done():
			return net.ErrClosed
		}
	}
	h.turn.Store(true)
	// What it waited for us is not held against the client.
	return h.SetDeadline(time.Now().Add(l.limits.Silence))
}

func (h *handshaking) release() {
	if h.turn.Load() && h.turn.CompareAndSwap(true, false) {
		<-h.l.turns
	}
}

func (h *handshaking) fail(outcome string) { h.failure.CompareAndSwap(nil, &outcome) }

func (h *handshaking) spokenLocked() {
	if h.place != nil {
		h.l.silent.Remove(h.place)
		h.place = nil
	}
}

// Read waits for the client: nothing is computed meanwhile.
func (h *handshaking) Read(b []byte) (int, error) {
	h.release()
	return h.Conn.Read(b)
}

// Write sends what was computed.
func (h *handshaking) Write(b []byte) (int, error) {
	h.release()
	return h.Conn.Write(b)
}
