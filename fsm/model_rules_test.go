package fsm

import (
	"fmt"
)

// modelTask is a task as the naive model keeps it: no lists, no timers.
type modelTask struct {
	shape                   Shape
	state                   TaskState
	attempt, failures, lost uint32
	node                    NodeID
	last                    NodeID // of the last attempt that ended
	due, started, waited    int64
	ready                   bool
}

type modelNode struct {
	cpu, mem      int64
	incarnation   uint64
	drained, lost bool
	zombies       map[string]*modelTask // "task/attempt"
	registered    bool
}

// model is written from the rules alone. It recomputes what the machine keeps.
type model struct {
	now   int64
	tasks []*modelTask // ID - 1
	nodes map[NodeID]*modelNode
}

func key(id TaskID, attempt uint32) string { return fmt.Sprintf("%s/%d", id, attempt) }

func (m *model) held(id TaskID) bool {
	for _, n := range m.nodes {
		for k := range n.zombies {
			var i TaskID
			var a uint32
			fmt.Sscanf(k, "t%d/%d", &i, &a)
			if i == id {
				return true
			}
		}
	}
	return false
}

func (m *model) used(id NodeID) (cpu, mem int64) {
	add := func(t *modelTask) { cpu += int64(t.shape.CPUMillis); mem += int64(t.shape.MemoryBytes) }
	for _, t := range m.tasks {
		if t.state == Running && t.node == id {
			add(t)
		}
	}
	for _, t := range m.nodes[id].zombies {
		add(t)
	}
	return cpu, mem
}

func (m *model) end(t *modelTask, s TaskState) {
	t.leave()
	t.state, t.ready = s, false
}

// leave notes where the attempt ran, if one does.
func (t *modelTask) leave() {
	if t.node != "" {
		t.last, t.node = t.node, ""
	}
}

func (m *model) back(t *modelTask, due int64, held bool) {
	t.leave()
	t.state, t.due = Queued, due
	t.ready = due <= m.now && !held
}

func (m *model) loseTask(t *modelTask, due int64) {
	if t.lost++; t.shape.OnLost == OnLostFail || t.lost >= MaxLostAttempts {
		m.end(t, Failed)
		return
	}
	m.back(t, due, false)
}

func (m *model) failTask(t *modelTask, held bool) {
	if t.failures++; t.failures > t.shape.RetryLimit {
		m.end(t, Failed)
		return
	}
	wait := t.shape.RetryBackoff
	for i := uint32(1); i < t.failures && wait < MaxRetryBackoff; i++ {
		wait *= 2
	}
	m.back(t, m.now+int64(min(wait, MaxRetryBackoff)), held)
}

func (m *model) lose(id NodeID, due int64) {
	n := m.nodes[id]
	freed := n.zombies
	n.zombies = map[string]*modelTask{}
	m.releaseOf(freed)
	for _, t := range m.tasks {
		if t.state == Running && t.node == id {
			m.loseTask(t, due)
		}
	}
}

// releaseOf makes ready only the tasks whose superseded attempts just ended:
// others that are due wait for a Tick.
func (m *model) releaseOf(freed map[string]*modelTask) {
	for k, t := range freed {
		var i TaskID
		var a uint32
		fmt.Sscanf(k, "t%d/%d", &i, &a)
		if t.state == Queued && !t.ready && t.due <= m.now && !m.held(i) {
			t.ready = true
		}
	}
}

func (m *model) tick() {
	for i, t := range m.tasks {
		id := TaskID(i + 1)
		if t.state == Running && t.shape.RunTimeout > 0 && t.started+int64(t.shape.RunTimeout+RunTimeoutGrace) <= m.now {
			m.nodes[t.node].zombies[key(id, t.attempt)] = t
			m.failTask(t, true)
		}
		if t.state == Queued && !t.ready && t.due <= m.now && !m.held(id) {
			t.ready = true
		}
		if t.state == Queued && (t.ready || m.held(id)) && t.shape.QueueTimeout > 0 &&
			t.due+int64(t.shape.QueueTimeout)-t.waited <= m.now {
			m.end(t, Expired)
		}
	}
}
