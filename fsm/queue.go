package fsm

// timer is one task's next deadline as an item of machine.timers.
type timer struct {
	at int64 // Unix ns
	t  *task
}

func (a timer) less(b timer) bool { return a.at < b.at || a.at == b.at && a.t.id < b.t.id }
func (a timer) setPos(p int)      { a.t.timerPos = int32(p) }

// timerAt returns a task's next deadline: a function of its recorded fields
// alone, so that a restored state has the same timers.
func (t *task) timerAt() (at int64, ok bool) {
	switch {
	case t.state == Running && t.shape.RunTimeout > 0:
		return t.startedAt + int64(t.shape.RunTimeout) + int64(RunTimeoutGrace), true
	case t.state == Queued && !t.ready && t.held == 0:
		return t.dueAt, true
	case t.state == Queued && t.shape.QueueTimeout > 0:
		return t.dueAt + int64(t.shape.QueueTimeout) - t.waited, true
	}
	return 0, false
}

// setTimer brings machine.timers in line with the task.
func (m *machine) setTimer(t *task) {
	at, ok := t.timerAt()
	switch {
	case ok && t.timerPos == 0:
		m.timers.push(timer{at, t})
	case ok:
		m.timers.items[t.timerPos-1].at = at
		m.timers.fix(int(t.timerPos))
	case t.timerPos != 0:
		m.timers.remove(int(t.timerPos))
	}
}

// line puts a ready task into its class's line.
func (m *machine) line(t *task) {
	c := t.shape.class
	if t.attempt == 0 && (c.fresh.tail == nil || c.fresh.tail.id < t.id) {
		c.fresh.push(t)
	} else {
		c.back.push((*taskBack)(t))
	}
	m.moveClass(c)
	m.ready++
}

// unline takes a ready task out of its class's line.
func (m *machine) unline(t *task) {
	c := t.shape.class
	if t.backPos != 0 {
		c.back.remove(int(t.backPos))
	} else {
		c.fresh.remove(t)
	}
	m.moveClass(c)
	m.ready--
}

// moveClass brings the class's place among the classes of its priority in
// line with its head.
func (m *machine) moveClass(c *class) {
	head := TaskID(0)
	if c.fresh.head != nil {
		head = c.fresh.head.id
	}
	if c.back.len() > 0 && (head == 0 || c.back.items[0].id < head) {
		head = c.back.items[0].id
	}
	lines := &m.lines[c.shape.Priority]
	switch {
	case head == c.head:
	case c.pos == 0:
		c.head = head
		lines.push(c)
	case head == 0:
		lines.remove(c.pos)
		c.head = 0
	default:
		c.head = head
		lines.fix(c.pos)
	}
}

// place decides where a Queued task that is in no line waits: in line, for its
// due time, or for its superseded attempts to be gone.
func (m *machine) place(t *task) {
	if t.held == 0 && t.dueAt <= m.now {
		t.ready = true
		m.line(t)
		m.change(ChangeQueued, t, "")
	}
	m.setTimer(t)
}
