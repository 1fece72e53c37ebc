package worker

import (
	"context"
	"time"

	"holdfast/fsm"
)

// leased reports whether attempts may run now. The caller holds mu.
func (w *Worker) leased() bool {
	return !w.until.IsZero() && w.cfg.Now().Before(w.until)
}

// extend takes an acknowledgement of a renewal that was sent at sent. The
// caller holds mu.
func (w *Worker) extend(sent time.Time) {
	until := sent.Add(w.lease - w.lease/marginParts)
	if until.After(w.until) {
		began := w.until.IsZero()
		w.until = until
		w.cfg.Executor.Extend(until.Sub(w.cfg.Now()))
		if began { // otherwise the watch finds the new end when it looks at the old one
			poke(w.watchFence)
		}
	}
}

// watchLease kills everything when the lease runs out.
func (w *Worker) watchLease(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(w.fenceIfDue())
		select {
		case <-ctx.Done():
		case <-w.watchFence:
		case <-timer.C:
		}
	}
}

// fenceIfDue returns how long until it has to be asked again.
func (w *Worker) fenceIfDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until.IsZero() {
		return time.Hour // an acknowledgement wakes the watch
	}
	left := w.until.Sub(w.cfg.Now())
	if left > 0 && len(w.live) == 0 && len(w.queue) == 0 {
		return left // nothing could go on for too long; an assignment wakes the watch
	}
	if left > 0 {
		return min(left, max(w.lease/fenceParts, time.Millisecond))
	}
	w.cfg.Logger.Warn("could not renew the lease in time, killing every attempt", "lease", w.lease, "attempts", len(w.attempts))
	w.metrics.fences.Inc()
	w.lose()
	return time.Hour
}

// loseAll is the fence by order: the state has given everything away, or Run
// is over.
func (w *Worker) loseAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose()
}

// lose gives up the lease, the session and every attempt that has not ended.
// The caller holds mu.
func (w *Worker) lose() {
	w.until = time.Time{}
	if w.session != nil {
		w.session.close()
		w.session = nil
	}
	for _, a := range w.queue {
		w.finish(a, fsm.AttemptResult{Reason: fsm.EndLost, Message: forcedMessage(fsm.EndLost)})
	}
	w.queue = nil
	for _, a := range w.live {
		a.end(fsm.EndLost, false)
	}
}
