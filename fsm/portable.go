package fsm

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// makePortable fits a task's copy to another cluster: nothing of it runs, or
// lies on a node, there.
func (t *task) makePortable(now int64) {
	t.last = "" // its output stays behind
	if t.state != Running {
		return
	}
	t.state, t.node = Queued, nil
	t.dueAt, t.ready = now, true
}

// MergePortable reads a portable snapshot and writes the full snapshot that
// results from giving its tasks, API tokens and settings to this cluster. This
// state is not changed: the stream is for the consensus group's own restore,
// so that every replica gets it.
//
// Kept of this state: identity, nodes, revocation set, join tokens, API tokens
// (they win over those of the same ID) and the feature level. Its tasks are
// given up. What its workers still run is superseded: it keeps its capacity,
// and no task of the same ID gets the same attempt number, until the workers
// have reported it. Remembered requests of neither side survive.
func (s *State) MergePortable(r io.Reader, w io.Writer) error {
	m, err := readSnapshot(r, s.limits, kindPortable)
	if err != nil {
		return fmt.Errorf("restore portable snapshot: %w", err)
	}
	if err := s.graft(m); err != nil {
		return fmt.Errorf("restore portable snapshot: %w", err)
	}
	merged := &State{limits: s.limits, m: m}
	snap := merged.Snapshot()
	defer snap.Release()
	_, err = snap.WriteTo(w)
	return err
}

// graft gives the machine this state's identity.
func (s *State) graft(m *machine) error {
	if len(m.nodeOrder) > 0 || len(m.removed) > 0 || m.requests.high > 0 || m.cluster.ID != "" {
		return errors.New("a portable snapshot has no nodes, requests or identity")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	own := s.m
	if own.cluster.ID == "" {
		return errors.New("this cluster is not initialised yet")
	}
	if m.cluster.Level > own.cluster.Level {
		return fmt.Errorf("the snapshot is of feature level %d, and this cluster at %d: upgrade it first", m.cluster.Level, own.cluster.Level)
	}
	settings := m.cluster.Settings
	m.cluster = own.cluster
	m.cluster.Settings = settings
	m.index = own.index
	m.now = max(m.now, own.now)
	m.lastTask = max(m.lastTask, own.lastTask)
	for _, t := range own.tokens {
		if i, found := m.findToken(t.ID); found {
			m.tokens[i] = t
		} else {
			m.tokens = slices.Insert(m.tokens, i, t)
		}
	}
	for _, r := range own.removed {
		m.addRemoved(r)
	}
	m.tasks.ascend(0, len(m.tasks.pages), func(t *task) bool {
		t.index = own.index // the other cluster's means nothing here
		// A worker that has had an attempt here never starts its number again.
		if mine := own.tasks.get(t.id); mine != nil && !t.state.Terminal() {
			t.attempt = max(t.attempt, mine.attempt)
		}
		return true
	})
	for _, n := range own.nodeOrder {
		m.graftNode(n)
	}
	for uint64(m.finished.n) > m.limits.FinishedKept {
		m.forget(m.finished.head)
	}
	return nil
}

// graftNode adds a node whose attempts are all superseded.
func (m *machine) graftNode(own *node) {
	n := &node{
		id: own.id, desc: own.desc, tokenID: own.tokenID, registered: own.registered, draining: own.draining, lost: own.lost,
		zombies: slices.Clone(own.zombies),
	}
	for _, t := range own.runningByID() {
		n.zombies = append(n.zombies, zombie{t.id, t.attempt, t.shape.CPUMillis, t.shape.MemoryBytes})
	}
	for _, z := range n.zombies {
		m.holdZombie(n, z)
		t := m.tasks.get(z.Task)
		if t == nil || t.state.Terminal() {
			continue
		}
		t.attempt = max(t.attempt, z.Attempt)
		if t.ready {
			m.unline(t)
			t.ready = false
		}
		m.setTimer(t)
	}
	m.addNode(n)
}
