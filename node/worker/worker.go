package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// Worker runs this node's attempts. Make one with New, give it one Run.
type Worker struct {
	cfg     Config
	group   sync.WaitGroup // one per running attempt
	metrics metrics

	reportReady chan struct{} // capacity 1: something to report
	watchFence  chan struct{} // capacity 1: the fence has something to watch

	mu         sync.Mutex
	ctx        context.Context // of Run
	session    *session        // the current one, nil between two
	term       uint64          // highest term that welcomed us
	until      time.Time       // end of the lease minus the margin; zero = none
	lease      time.Duration   // as the last Welcome said
	draining   bool
	free       Capacity
	attempts   map[protocol.Key]*attempt
	live       map[fsm.TaskID]*attempt // running here, superseded or not
	queue      []*attempt              // waiting, in order of arrival
	unreported []*attempt              // ended, in order of their ends
	started    history
	idle       chan struct{} // closed and replaced whenever an attempt ends or is forgotten
}

// New makes a Worker that does nothing until Run.
func New(cfg Config) *Worker {
	cfg = cfg.withDefaults()
	return &Worker{
		cfg: cfg, metrics: newMetrics(cfg.Registerer),
		reportReady: make(chan struct{}, 1), watchFence: make(chan struct{}, 1),
		ctx:  context.Background(), // replaced by Run, before anything can start
		free: cfg.Capacity, attempts: map[protocol.Key]*attempt{}, live: map[fsm.TaskID]*attempt{},
		started: newHistory(remembered), idle: make(chan struct{}),
	}
}

// Run works until ctx ends, then kills what still runs and waits for it. It
// returns ErrRemoved or ErrVersion when it is of no use to go on, else nil.
func (w *Worker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.ctx = ctx
	w.mu.Unlock()

	var fence sync.WaitGroup
	fence.Go(func() { w.watchLease(ctx) })
	err := w.sessions(ctx)
	cancel()
	w.loseAll()
	fence.Wait()
	w.group.Wait()
	return err
}

// sessions keeps a session to the leader, one after the other.
func (w *Worker) sessions(ctx context.Context) error {
	pause := firstReconnect
	for ctx.Err() == nil {
		welcomed, err := w.serve(ctx)
		if welcomed {
			pause = firstReconnect
		}
		var refused *refusedError
		if errors.As(err, &refused) {
			switch refused.Code {
			case protocol.RefuseRemoved:
				return ErrRemoved
			case protocol.RefuseVersion:
				return ErrVersion
			case protocol.RefuseRegister:
				// The state gave our attempts away: nothing of them may live
				// when it counts us as alive again.
				w.loseAll()
				w.group.Wait()
				err = w.cfg.Register(ctx)
				if err == nil {
					continue
				}
			}
		}
		if ctx.Err() != nil {
			break
		}
		w.cfg.Logger.Debug("no session with the leader, trying again", "error", err, "after", pause)
		w.metrics.sessionEnds.Inc()
		sleep(ctx, pause/2+time.Duration(w.cfg.Jitter()*float64(pause/2)))
		pause = min(2*pause, lastReconnect)
	}
	return nil
}

// LeaderChanged ends the session at once, so that the next one goes to the new
// leader: a stream to a dead host gives no error for a long time. Running
// attempts go on.
func (w *Worker) LeaderChanged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != nil {
		w.session.close()
	}
}

// Drain ends the worker's work politely: it takes no new attempts, lets the
// running ones go on for grace, then stops them (each with its own kill grace)
// with EndShutdown, and returns when all ends are reported, or with ctx's
// error. Tell the cluster first (fsm.DrainNode), otherwise it goes on
// assigning what is turned down here.
func (w *Worker) Drain(ctx context.Context, grace time.Duration) error {
	w.mu.Lock()
	w.draining = true
	for _, a := range w.queue {
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndShutdown, Message: forcedMessage(fsm.EndShutdown)})
	}
	w.queue = nil
	w.mu.Unlock()

	graced, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if w.await(graced, func() bool { return len(w.live) == 0 }) != nil {
		w.mu.Lock()
		for _, a := range w.live {
			a.end(fsm.EndShutdown, true)
		}
		w.mu.Unlock()
	}
	return w.await(ctx, func() bool { return len(w.attempts) == 0 })
}

// Running is the number of sandboxes that live now.
func (w *Worker) Running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.live)
}

// await waits until a condition over the guarded fields holds.
func (w *Worker) await(ctx context.Context, holds func() bool) error {
	for {
		w.mu.Lock()
		done, idle := holds(), w.idle
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-idle:
		}
	}
}

// changed wakes whoever awaits. The caller holds mu.
func (w *Worker) changed() {
	close(w.idle)
	w.idle = make(chan struct{})
}

// history remembers the last attempt of each of the newest tasks.
type history struct {
	attempts map[fsm.TaskID]uint32
	order    []fsm.TaskID // a ring
	next     int
}

func newHistory(size int) history {
	return history{attempts: map[fsm.TaskID]uint32{}, order: make([]fsm.TaskID, size)}
}

// last returns the newest attempt of a task that was ever assigned, 0 if unknown.
func (h *history) last(task fsm.TaskID) uint32 { return h.attempts[task] }

func (h *history) add(key protocol.Key) {
	if _, known := h.attempts[key.Task]; !known {
		if old := h.order[h.next]; old != 0 {
			delete(h.attempts, old)
		}
		h.order[h.next] = key.Task
		h.next = (h.next + 1) % len(h.order)
	}
	h.attempts[key.Task] = key.Attempt
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type metrics struct {
	running             prometheus.Gauge
	ends                *prometheus.CounterVec
	fences, sessionEnds prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_worker_running", Help: "Attempts that run on this node."}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_worker_ends_total",
			Help: "Attempts that ended on this node, by reason."}, []string{"reason"}),
		fences: prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_worker_fences_total",
			Help: "Times that this node killed its attempts because its lease ran out."}),
		sessionEnds: prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_worker_session_ends_total",
			Help: "Sessions with a leader that ended or did not come about."}),
	}
	if reg != nil {
		reg.MustRegister(m.running, m.ends, m.fences, m.sessionEnds)
	}
	return m
}
