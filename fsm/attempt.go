package fsm

import "time"

// applyAssign starts attempts, each if it still fits.
func (m *machine) applyAssign(e *envelope) (Result, error) {
	as, err := decodeAssign(e.body, m.assigns[:0], func(id []byte) *node { return m.nodes[NodeID(id)] })
	m.assigns = as
	if err != nil {
		return Result{}, err
	}
	var count uint32
	for i := range as {
		if m.assign(&as[i]) {
			count++
		}
	}
	return Result{Count: count}, nil
}

func (m *machine) assign(a *assignment) bool {
	t, n := m.tasks.get(a.task), a.node
	if t == nil || n == nil || t.state != Queued || !t.ready || a.attempt != t.attempt+1 {
		return false
	}
	if !n.takesTasks() || n.running.n+len(n.zombies) >= m.limits.RunningPerNode || !n.hasRoom(&t.shape.Shape) ||
		!t.shape.Fits(n.desc.Labels, n.desc.Abilities) {
		return false
	}
	m.touch(t)
	m.unline(t)
	t.ready = false
	t.waited += m.now - t.dueAt
	t.state = Running
	t.attempt = a.attempt
	t.startedAt = m.now
	t.node = n
	m.queued--
	m.running++
	n.running.push(t)
	n.use(&t.shape.Shape, 1)
	m.setTimer(t)
	m.change(ChangeAssigned, t, n.id)
	return true
}

// applyReport ends attempts of one worker.
func (m *machine) applyReport(e *envelope) (Result, error) {
	id, incarnation, reports, err := decodeReport(e.body, m.reports[:0])
	m.reports = reports
	if err != nil {
		return Result{}, err
	}
	n, refusal := m.liveNode(id)
	if n == nil {
		return refusal, nil
	}
	if !n.registered || n.desc.Incarnation != incarnation {
		return refuse(CodeConflict, "node %s is registered with another incarnation", n.id), nil
	}
	var count uint32
	for i := range reports {
		r := &reports[i]
		if m.clearZombie(n, r.Task, r.Attempt) {
			continue
		}
		t := m.tasks.get(r.Task)
		if t == nil || t.state != Running || t.node != n || t.attempt != r.Attempt {
			continue // superseded
		}
		result := r.Result
		m.touch(t)
		m.endAttempt(t)
		m.settle(t, &result, m.now)
		count++
	}
	clear(reports) // they point to tails
	return Result{Count: count}, nil
}

// endAttempt takes a running task from its worker. The caller decides what
// comes next.
func (m *machine) endAttempt(t *task) {
	n := t.node
	n.running.remove(t)
	n.use(&t.shape.Shape, -1)
	t.node, t.last = nil, n.id
	m.running--
}

// supersede ends a running attempt that the worker may still be at: its
// capacity stays in use until the worker reports it or is gone. With revoke
// the worker is told to kill it.
func (m *machine) supersede(t *task, revoke bool) {
	n := t.node
	m.endAttempt(t)
	n.addZombie(t)
	t.held++
	if revoke {
		m.change(ChangeRevoked, t, n.id)
	}
}

// settle decides what follows an attempt's end: the task's own end or another
// attempt, not before the given time. The task must have been touched, and
// taken from its worker.
func (m *machine) settle(t *task, r *AttemptResult, notBefore int64) {
	t.result = r
	switch r.Reason {
	case EndLost, EndShutdown, EndCancelled:
		// The worker's end, not the command's. Cancelled comes from a worker
		// that was told so by mistake: this attempt is not superseded.
		t.lost++
		if t.shape.OnLost == OnLostFail || t.lost >= MaxLostAttempts {
			m.finish(t, Failed, EndLost)
			return
		}
		m.requeue(t, notBefore)
	case EndExit:
		if r.ExitCode == 0 {
			m.finish(t, Succeeded, EndExit)
			return
		}
		m.fail(t, r.Reason)
	default:
		m.fail(t, r.Reason)
	}
}

func (m *machine) fail(t *task, reason EndReason) {
	t.failures++
	if t.failures > t.shape.RetryLimit {
		m.finish(t, Failed, reason)
		return
	}
	m.requeue(t, m.now+int64(backoff(t.shape.RetryBackoff, t.failures)))
}

// backoff returns the wait before the nth retry, n from 1.
func backoff(base time.Duration, n uint32) time.Duration {
	for ; n > 1 && base < MaxRetryBackoff; n-- {
		base *= 2
	}
	return min(base, MaxRetryBackoff)
}

// requeue puts a task that was taken from its worker back to the queue.
func (m *machine) requeue(t *task, dueAt int64) {
	t.state = Queued
	t.dueAt = dueAt
	m.queued++
	if t.held > 0 || dueAt > m.now {
		m.change(ChangeQueued, t, "") // place says so only when the task may run
	}
	m.place(t)
}

// finish gives a task its terminal state, and forgets the oldest tasks beyond
// the bound. The task must have been touched, and taken from its worker if it
// was running.
func (m *machine) finish(t *task, state TaskState, reason EndReason) {
	if t.state == Queued {
		if t.ready {
			m.unline(t)
			t.ready = false
		}
		t.waited += max(0, m.now-t.dueAt)
		m.queued--
	}
	t.state, t.reason, t.finishedAt = state, reason, m.now
	m.finishSeq++
	t.finishSeq = m.finishSeq
	m.setTimer(t)
	switch state {
	case Succeeded:
		m.totals.Succeeded++
	case Failed:
		m.totals.Failed++
	case Cancelled:
		m.totals.Cancelled++
	case Expired:
		m.totals.Expired++
	}
	m.finished.push(t)
	m.change(ChangeTerminal, t, "")
	for uint64(m.finished.n) > m.limits.FinishedKept {
		m.forget(m.finished.head)
	}
}

func (m *machine) forget(t *task) {
	m.touch(t)
	m.finished.remove(t)
	m.tasks.remove(t)
	m.releaseShape(t.shape)
	m.releaseOwner(t.owner)
}
