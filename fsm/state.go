package fsm

import (
	"fmt"
	"sync"
)

// State is the replicated state behind one lock. See the package's comment
// for the rules.
type State struct {
	mu     sync.RWMutex
	limits Limits
	m      *machine
	broken error    // after a StopError: the state may be half-way through a batch
	cmds   [][]byte // reused by Apply
}

// New returns an empty state. Zero limits take the defaults.
func New(limits Limits) *State {
	limits = limits.withDefaults()
	return &State{limits: limits, m: newMachine(limits)}
}

// Applied is what a batch did: one result per command, and all changes in the
// order in which they happened.
type Applied struct {
	Results []Result
	Changes []Change
}

// Apply applies the batch of one raft entry. Indexes ascend. An error, always
// a *StopError, means that this replica cannot go on: the batch is corrupt or
// from a newer release. The state is then not usable any more.
func (s *State) Apply(index uint64, batch []byte) (Applied, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return Applied{}, s.broken
	}
	applied, err := s.apply(index, batch)
	if err != nil {
		s.broken = err
	}
	return applied, err
}

func (s *State) apply(index uint64, batch []byte) (Applied, error) {
	if index <= s.m.index {
		return Applied{}, &StopError{Index: index, Command: -1, Err: fmt.Errorf("entry %d was already applied", s.m.index)}
	}
	unixNano, cmds, err := splitBatch(batch, s.cmds[:0])
	if err != nil {
		return Applied{}, &StopError{Index: index, Command: -1, Err: err}
	}
	applied, err := s.m.applyBatch(index, unixNano, cmds)
	clear(cmds) // they alias the batch
	s.cmds = cmds
	return applied, err
}

// Index returns the index of the last entry applied.
func (s *State) Index() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.index
}

// Now returns the state's time, Unix ns: the greatest time of any batch.
func (s *State) Now() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.now
}

// NextDeadline returns the earliest timer in the state, Unix ns: the leader
// proposes a CmdTick when it has passed.
func (s *State) NextDeadline() (unixNano int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.m.timers.len() == 0 {
		return 0, false
	}
	return s.m.timers.items[0].at, true
}

// Counts says how many tasks there are.
type Counts struct {
	Accepted uint64 // ever; equal to all the others together, Kept, Ready and Waiting aside
	Queued   int
	Running  int
	Totals       // terminal, over the cluster's life
	Ready    int // queued and may be assigned
	Waiting  int // queued, but held back: backoff, or a superseded attempt that may still run
	Kept     int // terminal and not forgotten
}

// Counts returns the numbers of tasks.
func (s *State) Counts() Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.m
	return Counts{
		Accepted: m.accepted,
		Queued:   m.queued,
		Running:  m.running,
		Totals:   m.totals,
		Ready:    m.ready,
		Waiting:  m.queued - m.ready,
		Kept:     m.finished.n,
	}
}
