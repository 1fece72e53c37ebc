package consensus

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// witness sees every entry that any node applies while it has power.
type witness struct {
	mu      sync.Mutex
	applied map[uint64][]byte // guarded by mu
	faults  []string          // guarded by mu
}

func (w *witness) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// watched is a node's state machine under the eyes of the witness.
type watched struct {
	*testState
	id   string
	w    *witness
	gone atomic.Bool
}

func (s *watched) Apply(index uint64, batch []byte) (fsm.Applied, error) {
	s.w.mu.Lock()
	if s.gone.Load() {
		s.w.mu.Unlock()
		return fsm.Applied{}, errPowerLost
	}
	if old, ok := s.w.applied[index]; !ok {
		s.w.applied[index] = bytes.Clone(batch)
	} else if !bytes.Equal(old, batch) {
		s.w.faults = append(s.w.faults, fmt.Sprintf("%s applied another command than others at index %d", s.id, index))
	}
	s.w.mu.Unlock()
	return s.testState.Apply(index, batch)
}

// incarnation is a node from a start to a crash.
type incarnation struct {
	state *watched
	disk  *crashDisk
	node  *testNode
}

// model is a cluster whose nodes lose their power. The driver's goroutine owns
// all but live, which clients read.
type model struct {
	c      *cluster
	w      *witness
	live   []atomic.Pointer[incarnation]
	ghosts sync.WaitGroup
	rng    *rand.Rand
	seen   struct{ crashes, answers, lost int }
}

func newModel(t *testing.T, n int, seed uint64, mut mutants) *model {
	m := &model{w: &witness{applied: map[uint64][]byte{}}, live: make([]atomic.Pointer[incarnation], n), rng: rand.New(rand.NewPCG(seed, 1))}
	m.c = newCluster(t, n, n, func(cfg *Config) { cfg.mutants = mut })
	for i, nd := range m.c.nodes {
		d := newCrashDisk(nd.logs.(*raft.InmemStore), seed*100+uint64(i)) //nolint:forcetypeassert // newCluster's
		nd.logs, nd.stable = d, d
	}
	for i := range n {
		m.start(i)
	}
	return m
}

func (m *model) start(i int) {
	nd := m.c.nodes[i]
	in := &incarnation{state: &watched{id: nd.id, w: m.w}, node: nd, disk: nd.logs.(*crashDisk)} //nolint:forcetypeassert // newModel's
	tune := m.c.tune
	m.c.tune = func(cfg *Config) {
		tune(cfg)
		in.state.testState = nd.state
		cfg.State = Adapt(in.state)
		cfg.OnFatal = nil
	}
	m.c.start(i)
	m.c.tune = tune
	m.live[i].Store(in)
}

// crash cuts the power of a node; what ran on it ends behind the scenes.
func (m *model) crash(i int) {
	in := m.live[i].Swap(nil)
	if in == nil {
		return
	}
	m.seen.crashes++
	if in.node.group.overlap.pending.Load() != nil {
		m.seen.lost++
	}
	m.w.mu.Lock()
	in.state.gone.Store(true)
	m.w.mu.Unlock()
	nd := in.node
	_ = nd.transport.Close()
	m.c.nodes[i] = &testNode{id: nd.id, snaps: nd.snaps.crash()}
	kept := in.disk.crash()
	m.c.nodes[i].logs, m.c.nodes[i].stable = kept, kept
	m.ghosts.Go(func() { _ = nd.group.Shutdown() })
}

// leader returns the one in office, or -1 after ten seconds.
func (m *model) leader() int {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); elapse(2 * time.Millisecond) {
		for i := range m.live {
			if in := m.live[i].Load(); in != nil && in.node.group.leadership.office.Load() != nil {
				return i
			}
		}
	}
	return -1
}

func (m *model) other(than int) int {
	return (than + 1 + m.rng.IntN(len(m.live)-1)) % len(m.live)
}

func (m *model) upTo(most time.Duration) { elapse(time.Duration(m.rng.Int64N(int64(most)))) }

// misfortune is one step of a random schedule.
func (m *model) misfortune() {
	l := m.leader()
	if l < 0 {
		return
	}
	switch m.rng.IntN(8) {
	case 0: // the leader's power goes, and who else may have its entry is away
		m.upTo(20 * time.Millisecond)
		m.c.isolate(m.c.nodes[m.other(l)])
		m.upTo(3 * time.Millisecond)
		m.crash(l)
		m.upTo(5 * time.Millisecond)
		m.start(l)
		m.upTo(1500 * time.Millisecond)
	case 1, 6: // half of the others get an entry, and after the crash the other half goes on with the leader
		order := m.rng.Perm(len(m.live))
		knows, rest := []raft.ServerAddress{}, []raft.ServerAddress{}
		for _, i := range order {
			switch {
			case i == l:
			case len(knows) < len(m.live)/2:
				knows = append(knows, raft.ServerAddress(nodeID(i)))
			default:
				rest = append(rest, raft.ServerAddress(nodeID(i)))
			}
		}
		self := raft.ServerAddress(nodeID(l))
		m.c.net.Partition(append(knows[:len(knows):len(knows)], self), rest)
		release := m.live[l].Load().disk.hold()
		m.upTo(60 * time.Millisecond)
		m.c.net.Partition(knows, append(rest[:len(rest):len(rest)], self))
		m.crash(l)
		release()
		m.start(l)
		m.upTo(1500 * time.Millisecond)
	case 7: // the leader hands over, and loses its power as a follower, or on the way
		g := m.live[l].Load().node.group
		m.ghosts.Go(func() { _ = g.TransferLeadership(context.Background()) })
		m.upTo(60 * time.Millisecond)
		m.crash(l)
		m.start(l)
	case 2: // anyone's
		i := m.rng.IntN(len(m.live))
		m.crash(i)
		m.upTo(800 * time.Millisecond)
		m.start(i)
	case 3: // everyone's
		for i := range m.live {
			m.crash(i)
		}
		for i := range m.live {
			m.start(i)
		}
	case 4: // the leader is cut off, deposed, and loses its power as a follower
		m.c.isolate(m.c.nodes[l])
		for _, i := range m.c.others(m.c.nodes[l]) {
			m.live[i].Load().node.group.Evidence(nodeID(l), KindPortUnreachable)
		}
		m.upTo(600 * time.Millisecond)
		m.c.net.Heal()
		m.upTo(60 * time.Millisecond)
		m.crash(l)
		m.start(l)
	case 5: // a snapshot, with an entry in flight that no state machine is shown
		g := m.live[l].Load().node.group
		g.raft.Barrier(0)
		m.ghosts.Go(func() { _ = g.Snapshot(context.Background()) })
		m.upTo(10 * time.Millisecond)
		m.c.isolate(m.c.nodes[m.other(l)])
		m.crash(l)
		m.start(l)
		m.upTo(1200 * time.Millisecond)
	}
	m.c.net.Heal()
	m.upTo(200 * time.Millisecond)
}
