package fsm

// PlanView is what a scheduler sees: workers that may take work, and the heads
// of the lines. It is a copy, so planning needs no lock; Assign checks the
// plan against the state again.
type PlanView struct {
	Now     int64 // the state's time, Unix ns
	Workers []WorkerView
	Classes []ClassView
}

// WorkerView is a worker that may take tasks: registered, not lost, draining
// or removed. Slices are shared and must not be changed.
type WorkerView struct {
	ID               NodeID
	Labels           []Label
	Abilities        []string
	FreeCPUMillis    int64 // never negative
	FreeMemoryBytes  int64
	TotalCPUMillis   int64
	TotalMemoryBytes int64
	Running          int
	FreeSlots        int // how many more attempts the state machine lets it have
}

// ClassView is the head of one line: tasks of equal priority and equal demands
// on a worker, oldest first. Shape holds the fields that matter for placement
// and no other; it is shared.
type ClassView struct {
	Shape *Shape
	Tasks []QueuedTask // ascending
	Ready int          // in the whole line
}

// QueuedTask is a task that may be assigned.
type QueuedTask struct {
	ID          TaskID
	NextAttempt uint32
}

// PlanView returns the workers, by ID, and the heads of at most that many
// lines with at most perClass tasks each, by priority and then by the oldest
// task. Its cost depends on what it returns and on the number of workers, and
// not on how many tasks wait.
//
// A line whose tasks fit nowhere takes one of the classes but hides no other
// line. Ask for more classes when all that came were unplaceable.
func (s *State) PlanView(perClass, classes int) PlanView {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.m
	v := PlanView{Now: m.now}
	for _, n := range m.nodeOrder {
		if n.takesTasks() {
			v.Workers = append(v.Workers, n.workerView(m.limits.RunningPerNode))
		}
	}
	for p := priorities - 1; p >= 0 && len(v.Classes) < classes; p-- {
		m.lines[p].ascend(func(c *class) bool {
			v.Classes = append(v.Classes, c.view(perClass))
			return len(v.Classes) < classes
		})
	}
	return v
}

func (n *node) workerView(slots int) WorkerView {
	return WorkerView{
		ID:               n.id,
		Labels:           n.desc.Labels,
		Abilities:        n.desc.Abilities,
		FreeCPUMillis:    max(0, int64(n.desc.CPUMillis)-n.cpuMillis),
		FreeMemoryBytes:  max(0, int64(n.desc.MemoryBytes)-n.memory),
		TotalCPUMillis:   int64(n.desc.CPUMillis),
		TotalMemoryBytes: int64(n.desc.MemoryBytes),
		Running:          n.running.n,
		FreeSlots:        max(0, slots-n.running.n-len(n.zombies)),
	}
}

// view merges the two parts of the line by ID.
func (c *class) view(limit int) ClassView {
	ready := c.fresh.n + c.back.len()
	v := ClassView{Shape: &c.shape, Ready: ready, Tasks: make([]QueuedTask, 0, max(0, min(limit, ready)))}
	add := func(t *task) bool {
		if len(v.Tasks) >= limit {
			return false
		}
		v.Tasks = append(v.Tasks, QueuedTask{ID: t.id, NextAttempt: t.attempt + 1})
		return true
	}
	fresh := c.fresh.head
	c.back.ascend(func(b *taskBack) bool {
		for ; fresh != nil && fresh.id < b.id; fresh = fresh.next {
			if !add(fresh) {
				return false
			}
		}
		return add((*task)(b))
	})
	for ; fresh != nil && add(fresh); fresh = fresh.next {
	}
	return v
}
