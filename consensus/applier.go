package consensus

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// applier is the raft.BatchingFSM around the state machine. It decodes
// nothing. All methods but the accessors run on the library's FSM goroutine,
// the apply goroutine.
type applier struct {
	sm      StateMachine
	encode  func(int64, [][]byte) []byte
	applied *appliedIndex
	log     *overlap
	metrics *Metrics
	now     func() time.Time

	onApplied  subscribers[func(uint64, []fsm.Change)]
	onRestored subscribers[func(uint64)]

	failed  atomic.Pointer[ApplyError] // set once: nothing is applied after it
	onFatal func(*ApplyError)

	compress   func(raft.FSMSnapshot) raft.FSMSnapshot
	decompress func(io.ReadCloser) (io.ReadCloser, error)

	bytes     atomic.Int64  // applied since the last snapshot
	snapBytes int64         // that ask for the next one
	snapAsk   chan struct{} // capacity 1
}

// outcome is what the library hands from the apply goroutine to the proposer.
type outcome struct {
	results []fsm.Result
	err     error
}

var errLatched = errors.New("consensus: the state machine failed on an earlier entry")

// Apply implements raft.FSM; the library calls ApplyBatch instead.
func (a *applier) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies committed entries in order, once they are durable here
// (see overlap). After an error nothing more is applied: the state stays at the
// last good entry.
func (a *applier) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if last := logs[len(logs)-1].Index; a.failed.Load() == nil {
		if err := a.log.applicable(last); err != nil {
			a.stop(&ApplyError{Index: last, Err: err})
		}
	}
	for i, l := range logs {
		if a.failed.Load() != nil {
			out[i] = &outcome{err: errLatched}
			continue
		}
		if l.Type == raft.LogCommand {
			o := a.applyOne(l)
			out[i] = o
			if o.err != nil && !errors.Is(o.err, errOtherOffice) {
				continue
			}
		}
		a.applied.advance(l.Index)
	}
	return out
}

func (a *applier) applyOne(l *raft.Log) *outcome {
	start := a.now()
	batch, foreign := l.Data, otherOffice(l)
	if foreign { // the state still counts the entry
		batch = a.encode(0, nil)
	}
	applied, err := a.sm.Apply(l.Index, batch)
	a.metrics.applySeconds.Observe(a.now().Sub(start).Seconds())
	if err != nil {
		a.latch(&ApplyError{Index: l.Index, Err: err})
		return &outcome{err: err}
	}
	for _, f := range a.onApplied.list() {
		f(l.Index, applied.Changes)
	}
	if a.bytes.Add(int64(len(l.Data))) >= a.snapBytes {
		select {
		case a.snapAsk <- struct{}{}:
		default:
		}
	}
	if foreign {
		return &outcome{err: errOtherOffice}
	}
	return &outcome{results: applied.Results}
}

func (a *applier) latch(err *ApplyError) {
	if a.failed.CompareAndSwap(nil, err) {
		a.applied.fail(err)
		a.onFatal(err)
	}
}

// stop ends applying like latch, for a failure that whoever met it reports: a
// write that failed has abandoned the group already, and one that outlives the
// group's end is none.
func (a *applier) stop(err *ApplyError) {
	if a.failed.CompareAndSwap(nil, err) {
		a.applied.fail(err)
	}
}

// subscribers is a list that is read without a lock on a hot path.
type subscribers[F any] struct {
	mu  sync.Mutex
	all atomic.Pointer[[]F]
}

func (s *subscribers[F]) add(f F) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := append(append([]F(nil), s.list()...), f)
	s.all.Store(&l)
}

func (s *subscribers[F]) list() []F {
	if l := s.all.Load(); l != nil {
		return *l
	}
	return nil
}
