package fsm

import "bytes"

// applySubmit puts tasks into the queue: all or none.
func (m *machine) applySubmit(e *envelope) (Result, error) {
	subs, err := decodeSubmit(e.body, m.subs[:0])
	m.subs = subs
	if err != nil {
		return Result{}, err
	}
	if used := uint64(m.queued + m.running); used+uint64(len(subs)) > m.limits.QueueBound {
		return refuse(CodeQueueFull, "%d tasks are queued or running, and the bound is %d", used, m.limits.QueueBound), nil
	}
	for i := range subs {
		if subs[i].shape, err = m.acquireShape(subs[i].encodedShape); err != nil {
			for _, s := range subs[:i] {
				m.releaseShape(s.shape)
			}
			return Result{}, err
		}
	}
	first := m.lastTask + 1
	for i := range subs {
		m.lastTask++
		t := &task{
			id:          m.lastTask,
			shape:       subs[i].shape,
			owner:       m.acquireOwner(e.principal),
			spec:        bytes.Clone(subs[i].spec), // else one task would keep the whole batch in memory
			index:       m.index,
			submittedAt: m.now,
			dueAt:       m.now,
			state:       Queued,
			gen:         m.gen,
		}
		m.tasks.put(t)
		m.queued++
		m.accepted++
		m.place(t)
	}
	return Result{First: first, Count: uint32(len(subs))}, nil
}

// applyCancel ends tasks that are not terminal.
func (m *machine) applyCancel(e *envelope) (Result, error) {
	var c Cancel
	if err := decodeCancel(e.body, &c); err != nil {
		return Result{}, err
	}
	var count uint32
	for _, id := range c.Tasks {
		t := m.tasks.get(id)
		if len(c.Tasks) == 1 && t == nil {
			return refuse(CodeNotFound, "task %s is unknown or was forgotten", id), nil
		}
		if len(c.Tasks) == 1 && t.state.Terminal() {
			return refuse(CodeConflict, "task %s has already %s", id, t.state), nil
		}
		if t == nil || t.state.Terminal() {
			continue
		}
		m.touch(t)
		if t.state == Running {
			m.supersede(t, true)
		}
		m.finish(t, Cancelled, EndCancelled)
		count++
	}
	return Result{Count: count}, nil
}

func decodeCancel(b []byte, c *Cancel) error {
	if err := decodeStrict(b, c); err != nil {
		return err
	}
	if len(c.Tasks) == 0 {
		return &decodeError{problem: "cancel names no task"}
	}
	return nil
}
