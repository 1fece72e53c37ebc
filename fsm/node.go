package fsm

import (
	"cmp"
	"slices"
)

// node is an admitted node. Its running tasks and what they use are derived.
type node struct {
	id         NodeID // immutable: snapshots read it without a lock
	desc       Node   // as it registered; replaced whole
	tokenID    string // admitted by it; empty for the first node
	registered bool
	draining   bool
	lost       bool
	zombies    []zombie // superseded attempts that may still run

	running   taskList
	cpuMillis int64 // in use, by running and superseded attempts
	memory    int64
}

// zombie is an attempt that was superseded while its worker was alive. It
// keeps its share of the worker's capacity, and its task is given to nobody,
// until the worker has reported it, restarted, or been lost: otherwise two
// attempts could run at once, or more than the worker has.
type zombie struct {
	Task        TaskID `cbor:"1,keyasint"`
	Attempt     uint32 `cbor:"2,keyasint"`
	CPUMillis   uint32 `cbor:"3,keyasint,omitempty"`
	MemoryBytes uint64 `cbor:"4,keyasint,omitempty"`
}

// removedNode is a member of the revocation set.
type removedNode struct {
	ID        NodeID `cbor:"1,keyasint"`
	Name      string `cbor:"2,keyasint,omitempty"`
	RemovedAt int64  `cbor:"3,keyasint,omitempty"` // Unix ns
}

func (n *node) takesTasks() bool {
	return n.registered && !n.lost && !n.draining && n.desc.CPUMillis > 0
}

func (n *node) hasRoom(s *Shape) bool {
	return n.cpuMillis+int64(s.CPUMillis) <= int64(n.desc.CPUMillis) &&
		n.memory+int64(s.MemoryBytes) <= int64(n.desc.MemoryBytes)
}

func (n *node) use(s *Shape, sign int64) {
	n.cpuMillis += sign * int64(s.CPUMillis)
	n.memory += sign * int64(s.MemoryBytes)
}

func (n *node) addZombie(t *task) {
	// Appending never changes what a snapshot sees of the array; removing
	// copies (clearZombie).
	n.zombies = append(n.zombies, zombie{t.id, t.attempt, t.shape.CPUMillis, t.shape.MemoryBytes})
	n.use(&t.shape.Shape, 1)
}

// clearZombie ends a superseded attempt for good, if it is one.
func (m *machine) clearZombie(n *node, id TaskID, attempt uint32) bool {
	i := slices.IndexFunc(n.zombies, func(z zombie) bool { return z.Task == id && z.Attempt == attempt })
	if i < 0 {
		return false
	}
	z := n.zombies[i]
	n.zombies = slices.Concat(n.zombies[:i], n.zombies[i+1:])
	m.buryZombie(n, z)
	return true
}

func (m *machine) buryZombie(n *node, z zombie) {
	n.cpuMillis -= int64(z.CPUMillis)
	n.memory -= int64(z.MemoryBytes)
	t := m.tasks.get(z.Task)
	if t == nil || t.held == 0 {
		return
	}
	if t.held--; t.held == 0 && t.state == Queued {
		m.touch(t)
		m.place(t)
	}
}

// loseAttempts ends every attempt of a node, superseded ones too, because its
// process is gone or must be taken for gone. They go back to the queue in the
// order of their IDs, not before the given time.
func (m *machine) loseAttempts(n *node, notBefore int64, message string) {
	zombies := n.zombies
	n.zombies = nil
	for _, z := range zombies {
		m.buryZombie(n, z)
	}
	for _, t := range n.runningByID() {
		m.touch(t)
		m.change(ChangeRevoked, t, n.id)
		m.endAttempt(t)
		m.settle(t, &AttemptResult{Reason: EndLost, Message: message, WallTime: durationBetween(t.startedAt, m.now)}, notBefore)
	}
}

func (n *node) runningByID() []*task {
	tasks := make([]*task, 0, n.running.n)
	for t := n.running.head; t != nil; t = t.next {
		tasks = append(tasks, t)
	}
	slices.SortFunc(tasks, func(a, b *task) int { return cmp.Compare(a.id, b.id) })
	return tasks
}

// liveNode finds an admitted node, or says why there is none.
func (m *machine) liveNode(id []byte) (*node, Result) {
	if n := m.nodes[NodeID(id)]; n != nil {
		return n, Result{}
	}
	if _, removed := m.removedAt[NodeID(id)]; removed {
		return nil, refuse(CodeForbidden, "node %s was removed from the cluster", id)
	}
	return nil, refuse(CodeNotFound, "node %s was never admitted", id)
}

func (m *machine) changeNode(id NodeID) {
	m.changes = append(m.changes, Change{Kind: ChangeNode, Node: id})
}

func findNode(order []*node, id NodeID) (int, bool) {
	return slices.BinarySearchFunc(order, id, func(n *node, id NodeID) int {
		return cmp.Compare(n.id, id)
	})
}

func (m *machine) addNode(n *node) {
	m.nodes[n.id] = n
	i, _ := findNode(m.nodeOrder, n.id)
	m.nodeOrder = slices.Insert(m.nodeOrder, i, n)
}
