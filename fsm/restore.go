package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Restore replaces the state by a full snapshot. On an error, which names the
// section and the record, the state is as it was.
func (s *State) Restore(r io.Reader) error {
	m, err := readSnapshot(r, s.limits, kindFull)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m, s.broken = m, nil
	return nil
}

// readSnapshot builds a machine from a snapshot of the wanted kind.
func readSnapshot(r io.Reader, limits Limits, kind byte) (*machine, error) {
	f, err := newFrameReader(r)
	if err != nil {
		return nil, err
	}
	if f.kind != kind {
		return nil, fmt.Errorf("this is a %s snapshot, want a %s one", kindName(f.kind), kindName(kind))
	}
	m := newMachine(limits)
	for {
		s, record, err := f.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if (s == sectionMeta) != (f.counts[sectionMeta-1] == 1 && f.total() == 1) {
			return nil, f.errorAt(errors.New("the meta record must come first, once"))
		}
		if err := m.restoreRecord(s, record); err != nil {
			return nil, f.errorAt(err)
		}
	}
	if f.counts[sectionMeta-1] != 1 {
		return nil, errors.New("snapshot section meta is missing")
	}
	if err := m.link(); err != nil {
		return nil, fmt.Errorf("snapshot contradicts itself: %w", err)
	}
	return m, nil
}

func kindName(kind byte) string {
	if kind == kindPortable {
		return "portable"
	}
	return "full"
}

func (f *frameReader) total() (n uint64) {
	for _, c := range f.counts {
		n += c
	}
	return n
}

// restoreRecord takes one record. Sections come in order.
func (m *machine) restoreRecord(s section, record []byte) error {
	switch s {
	case sectionMeta:
		return m.restoreMeta(record)
	case sectionNode:
		return m.restoreNode(record)
	case sectionRemoved:
		var r removedNode
		if err := decodeStrict(record, &r); err != nil {
			return err
		}
		if _, twice := m.removedAt[r.ID]; twice || m.nodes[r.ID] != nil {
			return fmt.Errorf("node %s is there twice", r.ID)
		}
		m.addRemoved(r)
	case sectionToken:
		t := new(storedToken)
		if err := decodeStrict(record, t); err != nil {
			return err
		}
		if n := len(m.tokens); n > 0 && m.tokens[n-1].ID >= t.ID {
			return fmt.Errorf("token %s is out of order", t.ID)
		}
		m.tokens = append(m.tokens, t)
	case sectionTask:
		t, err := m.decodeTask(record)
		if err != nil {
			return err
		}
		if t.id <= m.restoredTask {
			return fmt.Errorf("task %s is out of order", t.id)
		}
		m.restoredTask = t.id
		m.tasks.put(t)
	case sectionRequest:
		e, err := decodeRemembered(record)
		if err != nil {
			return err
		}
		if _, twice := m.requests.byID[e.id]; twice || e.id == (RequestID{}) {
			return fmt.Errorf("request %x is there twice or is zero", e.id)
		}
		m.requests.add(e, m.limits.RequestIDsKept)
	}
	return nil
}

func (m *machine) restoreMeta(record []byte) error {
	var r metaRecord
	if err := decodeStrict(record, &r); err != nil {
		return err
	}
	if r.Now < 0 || r.Now > maxUnixNano || r.LastTask > maxTaskID {
		return errors.New("a time or a task ID is out of range")
	}
	if r.Cluster.Level > FeatureLevel {
		return &newerError{fmt.Sprintf("feature level %d", r.Cluster.Level)}
	}
	m.index, m.now, m.lastTask, m.accepted, m.finishSeq = r.Index, r.Now, r.LastTask, r.Accepted, r.FinishSeq
	m.totals, m.cluster = r.Totals, r.Cluster
	m.limits = m.limits.within(r.Cluster.Settings)
	return nil
}

func (m *machine) restoreNode(record []byte) error {
	var r nodeRecord
	if err := decodeStrict(record, &r); err != nil {
		return err
	}
	if n := len(m.nodeOrder); n > 0 && m.nodeOrder[n-1].id >= r.Node.ID {
		return fmt.Errorf("node %s is out of order", r.Node.ID)
	}
	n := &node{
		id: r.Node.ID, desc: r.Node, tokenID: r.TokenID, registered: r.Registered, draining: r.Draining, lost: r.Lost,
		zombies: r.Zombies,
	}
	m.nodes[n.id] = n
	m.nodeOrder = append(m.nodeOrder, n)
	return nil
}

// link derives what a snapshot does not hold.
func (m *machine) link() error {
	for _, n := range m.nodeOrder {
		for _, z := range n.zombies {
			if z.CPUMillis > maxCPUMillis || z.MemoryBytes > maxMemoryBytes {
				return fmt.Errorf("node %s: a superseded attempt of task %s is out of bounds", n.id, z.Task)
			}
			m.holdZombie(n, z)
		}
	}
	var finished []*task
	var err error
	m.tasks.ascend(0, len(m.tasks.pages), func(t *task) bool {
		switch {
		case t.state == Running:
			m.running++
			t.node.running.push(t)
			t.node.use(&t.shape.Shape, 1)
		case t.ready && t.held > 0:
			err = fmt.Errorf("task %s is ready while an older attempt may run", t.id)
		case t.state == Queued:
			m.queued++
			if t.ready {
				m.line(t)
			}
		default:
			finished = append(finished, t)
		}
		m.setTimer(t)
		return err == nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(finished, func(a, b *task) int { return cmp.Compare(a.finishSeq, b.finishSeq) })
	for i, t := range finished {
		if i > 0 && finished[i-1].finishSeq == t.finishSeq {
			return fmt.Errorf("tasks %s and %s finished at the same place", finished[i-1].id, t.id)
		}
		m.finished.push(t)
	}
	ended := m.totals.Succeeded + m.totals.Failed + m.totals.Cancelled + m.totals.Expired
	if m.accepted != uint64(m.queued+m.running)+ended {
		return fmt.Errorf("%d tasks were accepted, but %d are queued, %d running and %d ended", m.accepted, m.queued, m.running, ended)
	}
	return nil
}

// holdZombie accounts for a superseded attempt that the node's list has.
func (m *machine) holdZombie(n *node, z zombie) {
	n.cpuMillis += int64(z.CPUMillis)
	n.memory += int64(z.MemoryBytes)
	if t := m.tasks.get(z.Task); t != nil {
		t.held++
	}
}
