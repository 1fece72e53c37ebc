package fsm

// applyTick moves timers that are due at the batch's time, at most TickBatch.
// Result: Count of timers moved.
func (m *machine) applyTick(e *envelope) (Result, error) {
	if err := checkTick(e.body); err != nil {
		return Result{}, err
	}
	var count uint32
	for count < TickBatch && m.timers.len() > 0 && m.timers.items[0].at <= m.now {
		m.expire(m.timers.items[0].t)
		count++
	}
	return Result{Count: count}, nil
}

func checkTick(body []byte) error {
	if len(body) != 0 {
		return &decodeError{problem: "tick has no body"}
	}
	return nil
}

// expire acts on a task's timer. Each case moves the timer or ends it, so a
// tick makes progress.
func (m *machine) expire(t *task) {
	m.touch(t)
	switch {
	case t.state == Running:
		// The worker renews its lease but did not enforce the timeout. The
		// attempt may still run, so the next one waits until it is gone.
		m.supersede(t, true)
		m.settle(t, &AttemptResult{
			Reason:   EndTimeout,
			Message:  "the worker did not report within the grace after the run timeout",
			WallTime: durationBetween(t.startedAt, m.now),
		}, m.now)
	case !t.ready && t.held == 0:
		m.place(t)
	default:
		m.finish(t, Expired, EndQueueTimeout)
	}
}
