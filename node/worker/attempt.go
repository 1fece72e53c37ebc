package worker

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

type phase uint8

const (
	waiting phase = iota // for capacity, or for the end of an earlier attempt
	running              // from before the sandbox starts until it is gone
	ended                // has a result, to be reported
)

// attempt is one try of a task on this worker. Worker.mu guards it.
type attempt struct {
	key   protocol.Key
	spec  *fsm.Spec
	phase phase

	sandbox Sandbox // nil until started
	cancel  context.CancelFunc
	timeout *time.Timer

	forced   fsm.EndReason // why we end it; EndNone = it ends by itself
	graceful bool          // SIGTERM first; only until somebody kills

	result fsm.AttemptResult
}

func (a *attempt) demand() Capacity {
	return Capacity{CPUMillis: int64(a.spec.Shape.CPUMillis), MemoryBytes: int64(a.spec.Shape.MemoryBytes)}
}

// signal passes the wish to end on to the sandbox, if there is one yet.
func (a *attempt) signal() {
	if a.forced == fsm.EndNone {
		return
	}
	if a.sandbox == nil {
		if a.cancel != nil {
			a.cancel()
		}
		return
	}
	if a.graceful {
		a.sandbox.Stop(a.spec.KillGrace)
	} else {
		a.sandbox.Kill()
	}
}

// end wishes a running attempt to end. A lost lease beats every other reason,
// and a kill beats a grace; otherwise the first reason stays.
func (a *attempt) end(reason fsm.EndReason, graceful bool) {
	first := a.forced == fsm.EndNone
	if first || reason == fsm.EndLost {
		a.forced = reason
	}
	if first {
		a.graceful = graceful
	} else if graceful || !a.graceful {
		return // nothing sharper than what is under way
	} else {
		a.graceful = false
	}
	a.signal()
}

// assign takes an assignment from the leader of the current session.
func (w *Worker) assign(s *session, item *protocol.Assignment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != s || !w.leased() {
		return // a later session brings it again, if it still counts
	}
	last := w.started.last(item.Key.Task)
	if last >= item.Key.Attempt {
		return
	}
	w.started.add(item.Key)
	if old := w.attempts[protocol.Key{Task: item.Key.Task, Attempt: last}]; old != nil {
		w.supersede(old, false) // earlier ones were superseded by that one
	}
	a := &attempt{key: item.Key, spec: &fsm.Spec{}}
	w.attempts[a.key] = a
	spec := new(fsm.Spec)
	err := fsm.Unmarshal(item.Spec, spec)
	switch {
	case err != nil:
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndStartFailed, Message: "this node cannot read the spec: " + err.Error()})
		return
	case w.draining:
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndShutdown, Message: "the node is shutting down"})
		return
	case len(w.attempts) > protocol.MaxAttempts:
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndLost, Message: "the node holds too many attempts"})
		return
	}
	a.spec = spec
	if need := a.demand(); need.CPUMillis > w.cfg.Capacity.CPUMillis || need.MemoryBytes > w.cfg.Capacity.MemoryBytes {
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndStartFailed, Message: "the task needs more CPU or memory than this node has"})
		return
	}
	if len(w.live) == 0 && len(w.queue) == 0 {
		poke(w.watchFence)
	}
	w.queue = append(w.queue, a)
	w.startWaiting()
}

// revoke stops an attempt that the state has superseded. The state waits for
// the report of its end, also of one that never came here.
func (w *Worker) revoke(s *session, r protocol.Revocation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != s {
		return
	}
	if a := w.attempts[r.Key]; a != nil {
		w.supersede(a, r.Grace)
	} else {
		if w.started.last(r.Key.Task) < r.Key.Attempt {
			w.started.add(r.Key)
		}
		a = &attempt{key: r.Key, spec: &fsm.Spec{}}
		w.attempts[r.Key] = a
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndCancelled, Message: "superseded before it could start"})
	}
	w.startWaiting()
}

// supersede ends an attempt that no longer counts. The caller holds mu.
func (w *Worker) supersede(a *attempt, graceful bool) {
	switch a.phase {
	case waiting:
		w.unqueue(a)
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndCancelled, Message: forcedMessage(fsm.EndCancelled)})
	case running:
		a.end(fsm.EndCancelled, graceful)
	}
}

func (w *Worker) unqueue(a *attempt) {
	for i, other := range w.queue {
		if other == a {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return
		}
	}
}

// startWaiting starts, in order of arrival, whatever fits. The caller holds mu.
func (w *Worker) startWaiting() {
	if !w.leased() {
		return
	}
	left := w.queue[:0]
	for _, a := range w.queue {
		need := a.demand()
		if need.CPUMillis > w.free.CPUMillis || need.MemoryBytes > w.free.MemoryBytes || w.taskRuns(a) {
			left = append(left, a)
			continue
		}
		w.free.CPUMillis -= need.CPUMillis
		w.free.MemoryBytes -= need.MemoryBytes
		a.phase = running
		w.live[a.key.Task] = a
		w.metrics.running.Inc()
		ctx, cancel := context.WithCancel(w.ctx)
		a.cancel = cancel
		w.group.Go(func() {
			defer cancel()
			w.run(ctx, a)
		})
	}
	clear(w.queue[len(left):])
	w.queue = left
}

// taskRuns reports whether an earlier attempt of the same task lives here.
func (w *Worker) taskRuns(a *attempt) bool {
	_, runs := w.live[a.key.Task]
	return runs
}

// run starts one attempt, waits for its end and records it. It owns no field.
func (w *Worker) run(ctx context.Context, a *attempt) {
	begin := w.cfg.Now()
	var exit Exit
	var kept OutputSummary
	output, err := w.cfg.Outputs.Create(a.key.Task, a.key.Attempt, a.spec.OutputLimitBytes)
	if err == nil {
		if a.spec.OnOutputLimit == fsm.OutputEnd {
			output.OnExceeded(func() { w.exceeded(a) })
		}
		var sandbox Sandbox
		if sandbox, err = w.cfg.Executor.Start(ctx, Run{Key: a.key, Spec: a.spec}, output.Stdout(), output.Stderr()); err == nil {
			w.began(a, sandbox)
			exit = sandbox.Wait()
		}
		kept = output.Finish()
	}
	if err != nil {
		exit = Exit{Reason: fsm.EndStartFailed, Message: err.Error()}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	if a.timeout != nil {
		a.timeout.Stop()
	}
	need := a.demand()
	w.free.CPUMillis += need.CPUMillis
	w.free.MemoryBytes += need.MemoryBytes
	delete(w.live, a.key.Task)
	w.metrics.running.Dec()
	result := fsm.AttemptResult{Reason: exit.Reason, ExitCode: exit.Code, Signal: exit.Signal, Message: exit.Message,
		CPUTime: exit.CPUTime, MemoryPeakBytes: exit.MemoryPeakBytes, WallTime: w.cfg.Now().Sub(begin),
		Tail: kept.Tail, StdoutBytes: kept.StdoutBytes, StderrBytes: kept.StderrBytes, Truncated: kept.Truncated,
		Weaker: exit.Weaker, NotEnforced: exit.NotEnforced}
	if w.ctx.Err() != nil && a.forced == fsm.EndNone {
		a.forced = fsm.EndLost
	}
	if a.forced != fsm.EndNone {
		result.Reason = a.forced
		result.Message = forcedMessage(a.forced)
	}
	w.finish(a, result)
	w.startWaiting()
}

// exceeded ends an attempt that wrote more than its spec allows. Without a
// grace: it could go on writing.
func (w *Worker) exceeded(a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.phase == running {
		a.end(fsm.EndOutputLimit, false)
	}
}

// began records a sandbox and catches up with what was wished meanwhile.
func (w *Worker) began(a *attempt, sandbox Sandbox) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.sandbox = sandbox
	if !w.leased() && a.forced == fsm.EndNone {
		// The deadline passed while it started and the fence has not woken yet.
		a.forced = fsm.EndLost
	}
	if a.forced != fsm.EndNone {
		a.signal()
		return
	}
	if limit := a.spec.Shape.RunTimeout; limit > 0 {
		a.timeout = time.AfterFunc(limit, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if a.phase == running {
				a.end(fsm.EndTimeout, true)
			}
		})
	}
}

// finish gives an attempt its result and hands it to the reporter. The caller
// holds mu.
func (w *Worker) finish(a *attempt, result fsm.AttemptResult) {
	result.Message = clip(result.Message)
	a.phase, a.result = ended, result
	a.sandbox, a.cancel, a.timeout = nil, nil, nil
	w.metrics.ends.WithLabelValues(result.Reason.String()).Inc()
	w.unreported = append(w.unreported, a)
	poke(w.reportReady)
	w.changed()
}

func forcedMessage(reason fsm.EndReason) string {
	switch reason {
	case fsm.EndTimeout:
		return "the run timeout passed"
	case fsm.EndLost:
		return "the worker could not renew its lease and killed the attempt"
	case fsm.EndShutdown:
		return "the node shut down before the task was done"
	case fsm.EndOutputLimit:
		return "it wrote more than its output limit"
	case fsm.EndCancelled:
		return "cancelled, or superseded by another attempt"
	}
	return ""
}

// clip cuts a message to what the state takes, between two characters.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxMessageBytes {
		return s
	}
	n := maxMessageBytes
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
