package consensus

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// operation is an append that was answered, or a read. The register that is
// appended to shows its whole history, so out is also a place in the order.
type operation struct {
	value      string // appended; "" for a read
	out        string
	call, done time.Time
}

// try runs one operation on the node that leads, once. ok is false where the
// outcome is unknown, also of what a node says that has lost its power.
func (m *model) try(ctx context.Context, value string) (op operation, ok bool) {
	op.value = value
	for op.call = time.Now(); ctx.Err() == nil; elapse(2 * time.Millisecond) {
		for i := range m.live {
			in := m.live[i].Load()
			if in == nil || in.node.group.leadership.office.Load() == nil {
				continue
			}
			short, cancel := context.WithTimeout(ctx, time.Second)
			err := error(nil)
			if value != "" {
				var r fsm.Result
				r, _, err = in.node.group.Propose(short, testCommand{Key: "r", Value: value, Append: true, RequestID: value}.encode())
				op.out = r.Detail
			} else {
				var index uint64
				if index, err = in.node.group.ReadIndex(short); err == nil {
					at := m.live[int(index)%len(m.live)].Load() // anyone may serve it
					if at == nil {
						at = in
					}
					err = at.node.group.WaitApplied(short, index)
					op.out = at.state.get("r")
					ok = !at.state.gone.Load()
				}
			}
			cancel()
			op.done = time.Now()
			return op, err == nil && (ok || value != "") && !in.state.gone.Load()
		}
	}
	return op, false
}

// run is one seed: clients, and misfortunes. It returns what went wrong.
func (m *model) run(lasting time.Duration) []string {
	ctx, cancel := context.WithTimeout(context.Background(), lasting)
	defer cancel()
	var mu sync.Mutex
	var ops []operation
	var clients sync.WaitGroup
	seed := m.rng.Uint64()
	for id := range 3 {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for n := 0; ctx.Err() == nil; n++ {
				value := ""
				if rng.IntN(3) > 0 {
					value = fmt.Sprintf("%d.%d;", id, n)
				}
				if op, ok := m.try(ctx, value); ok {
					mu.Lock()
					ops = append(ops, op)
					mu.Unlock()
				}
				elapse(time.Duration(rng.Int64N(int64(8 * time.Millisecond))))
			}
		})
	}
	for ctx.Err() == nil {
		m.misfortune()
	}
	clients.Wait()
	m.settle(ops)
	m.seen.answers = len(ops)
	return m.w.faults
}

// settle lets the cluster come to rest and judges the history.
func (m *model) settle(ops []operation) {
	m.c.net.Heal()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var last operation
	ok := false
	for !ok && ctx.Err() == nil {
		last, ok = m.try(ctx, "end;")
	}
	if !ok {
		m.w.fault("no write succeeds in the end")
		return
	}
	for i := range m.live {
		in := m.live[i].Load()
		for ctx.Err() == nil && in.state.get("r") != last.out {
			elapse(5 * time.Millisecond)
		}
		if in.state.get("r") != last.out {
			m.w.fault("%s ends with another state than the leader", in.node.id)
		}
	}
	judge(m.w, append(ops, last), last.out)
}

// judge checks that every answer is a prefix of the final history, that
// nothing answered is missing, and that the order is one of real time.
func judge(w *witness, ops []operation, final string) {
	for _, op := range ops {
		switch {
		case !strings.HasPrefix(final, op.out):
			w.fault("%q was answered with a history that did not last", op.value)
		case op.value != "" && strings.Count(final, ";"+op.value)+strings.Count(final[:min(len(final), len(op.value))], op.value) != 1:
			w.fault("%q was acknowledged and is not there once", op.value)
		}
		for _, before := range ops {
			if before.done.Before(op.call) && (len(before.out) > len(op.out) || len(before.out) == len(op.out) && op.value != "") {
				w.fault("%q came after %q and has not seen it", op.value, before.value)
			}
		}
	}
}

// crashRun runs one seed of the model on a virtual clock.
func crashRun(t *testing.T, seed uint64, lasting time.Duration, mut mutants) (faults []string, m *model) {
	synctest.Test(t, func(t *testing.T) {
		m = newModel(t, 3+2*int(seed%2), seed, mut)
		faults = m.run(lasting)
		m.c.stopAll()
		m.ghosts.Wait()
	})
	return faults, m
}

// crashTime bounds the seeds of one run, of which there are at least ten.
var crashTime = flag.Duration("crashtime", 5*time.Second, "how long TestPowerLossWithWritesInFlight looks for faults")

// Nodes lose their power with writes in flight, alone and together, while
// others are cut off. Whatever was answered stays, nobody applies anything that
// another does not, and reads follow writes. The mutants below show that the
// test sees each safeguard.
// guards P1, P4, P9
func TestPowerLossWithWritesInFlight(t *testing.T) {
	begin, seeds, crashes, lost, answers := time.Now(), 0, 0, 0, 0
	for seed := uint64(0); seed < 10 || time.Since(begin) < *crashTime; seed++ {
		faults, m := crashRun(t, seed, 5*time.Second, mutants{})
		if len(faults) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(faults[:min(5, len(faults))], "\n"))
		}
		seeds, crashes, lost, answers = seeds+1, crashes+m.seen.crashes, lost+m.seen.lost, answers+m.seen.answers
	}
	t.Logf("%d seeds, %d power losses, %d with a leader's append in flight, %d answers", seeds, crashes, lost, answers)
	if lost < seeds || answers < 50*seeds {
		t.Error("the schedules do not meet what they are made for")
	}
}

// Each safeguard of overlap that a random schedule can miss is missed. The
// others are in overlap_test.go.
func TestPowerLossFindsMutants(t *testing.T) {
	for name, mut := range map[string]mutants{
		"no clamp":      {noClamp: true},
		"no apply wait": {noApplyWait: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(50) {
				if faults, _ := crashRun(t, seed, 5*time.Second, mut); len(faults) > 0 {
					t.Logf("seed %d: %d faults, as %s", seed, len(faults), faults[0])
					return
				}
			}
			t.Error("not noticed in 50 seeds")
		})
	}
}
