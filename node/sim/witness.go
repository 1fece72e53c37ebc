package sim

import (
	"fmt"
	"hash/maphash"
	"sync"

	"holdfast/chaos/history"
	"holdfast/fsm"
)

// hashEvery is how many entries lie between two comparisons of states: each
// costs a walk over the whole state.
const hashEvery = 16

// witness sees every entry that any process applies while it lives, and what
// came of it.
type witness struct {
	w    *World
	seed maphash.Seed

	mu      sync.Mutex
	batches map[uint64]batchSeen        // guarded by mu
	hashes  map[uint64]hashSeen         // guarded by mu
	ends    map[fsm.TaskID]terminalSeen // guarded by mu
	terms   map[uint64]string           // guarded by mu: who led
	last    uint64                      // guarded by mu: highest index applied anywhere
}

type batchSeen struct {
	by   string
	hash uint64
}

type hashSeen struct {
	by   string
	hash [32]byte
}

// terminalSeen is a task's end as it was first seen.
type terminalSeen struct{ by, end string }

func newWitness(w *World) *witness {
	return &witness{w: w, seed: maphash.MakeSeed(), batches: map[uint64]batchSeen{}, hashes: map[uint64]hashSeen{}, ends: map[fsm.TaskID]terminalSeen{}, terms: map[uint64]string{}}
}

// entry is called before a process applies an entry. A dead one applies no more.
func (s *witness) entry(p *proc, index uint64, batch []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ctx.Err() != nil {
		return errPowerLost
	}
	now := batchSeen{p.host.id, maphash.Bytes(s.seed, batch)}
	if old, ok := s.batches[index]; !ok {
		s.batches[index] = now
	} else if old.hash != now.hash {
		s.w.problem("log", "%s applies another entry %d than %s did", p.host.id, index, old.by)
	}
	s.last = max(s.last, index)
	return nil
}

// saw is called after an entry was applied.
func (s *witness) saw(p *proc, index uint64, changes []fsm.Change) {
	if index%hashEvery == 0 {
		s.compare(p, index)
	}
	for _, c := range changes {
		if c.Kind != fsm.ChangeTerminal {
			continue
		}
		v, ok := p.state.Task(c.Task)
		if !ok {
			continue
		}
		if !v.State.Terminal() {
			s.w.problem("terminal", "%s says that %s is terminal, and its state is %d", p.host.id, c.Task, v.State)
		}
		s.ended(p.host.id, v)
	}
}

// ended holds a task's end to what was first seen of it.
func (s *witness) ended(by string, v *fsm.TaskView) {
	now := terminalSeen{by, endOf(v)}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.ends[v.ID]
	if !ok {
		s.ends[v.ID] = now
	} else if old.end != now.end {
		s.w.problem("terminal", "%s ended as %s on %s, and as %s on %s", v.ID, old.end, old.by, now.end, by)
	}
}

func endOf(v *fsm.TaskView) string {
	result := "none"
	if v.Result != nil {
		result = fmt.Sprintf("%s %d %q", v.Result.Reason, v.Result.ExitCode, v.Result.Tail)
	}
	return fmt.Sprintf("state %d attempt %d on %s at %d, %s (%s)", v.State, v.Attempt, v.Node, v.FinishedAt, v.EndReason, result)
}

func (s *witness) restored(p *proc, index uint64) {
	if got := p.state.Index(); got == index {
		s.compare(p, index)
	}
}

// compare holds a state to what others had at the same index. It runs on the
// apply goroutine, so the state stands still.
func (s *witness) compare(p *proc, index uint64) {
	hash := p.state.Hash()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	s.w.history.add(history.Event{Kind: history.Sample, Node: p.host.id, Index: index, State: &history.State{Hash: fmt.Sprintf("%x", hash[:8])}})
	old, ok := s.hashes[index]
	if !ok {
		s.hashes[index] = hashSeen{p.host.id, hash}
	} else if old.hash != hash {
		s.w.problem("state hash", "%s has another state than %s at index %d", p.host.id, old.by, index)
	}
}

// leads notes who leads in a term: one.
func (s *witness) leads(p *proc, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.ctx.Err() != nil {
		return
	}
	if other, ok := s.terms[term]; ok && other != p.host.id {
		s.w.problem("two leaders", "%s and %s lead in term %d", other, p.host.id, term)
	}
	s.terms[term] = p.host.id
	s.w.history.add(history.Event{Kind: history.Sample, Node: p.host.id, State: &history.State{Role: "leader", Leader: p.host.id, Term: term}})
}
