package consensus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
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
	applied *appliedIndex
	metrics *Metrics
	now     func() time.Time

	onApplied  subscribers[func(uint64, []fsm.Change)]
	onRestored subscribers[func(uint64)]

	failed  atomic.Pointer[ApplyError] // set once: nothing is applied after it
	onFatal func(*ApplyError)

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

// ApplyBatch applies committed entries in order. After an error nothing more is
// applied: the state stays at the last good entry.
func (a *applier) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	for i, l := range logs {
		if a.failed.Load() != nil {
			out[i] = &outcome{err: errLatched}
			continue
		}
		if l.Type == raft.LogCommand {
			o := a.applyOne(l)
			out[i] = o
			if o.err != nil {
				continue
			}
		}
		a.applied.advance(l.Index)
	}
	return out
}

func (a *applier) applyOne(l *raft.Log) *outcome {
	start := a.now()
	applied, err := a.sm.Apply(l.Index, l.Data)
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
	return &outcome{results: applied.Results}
}

func (a *applier) latch(err *ApplyError) {
	if a.failed.CompareAndSwap(nil, err) {
		a.applied.fail(err)
		a.onFatal(err)
	}
}

// Our own header stands before the state in a snapshot. It carries the applied
// index, which the library knows and does not tell: a follower that installs a
// snapshot would otherwise not know what it may answer until the next command.
const (
	snapshotMagic      = "HFS1"
	snapshotHeaderSize = 12 // magic, then the index as 8 bytes, big endian
)

func snapshotHeader(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(snapshotMagic), index)
}

func readSnapshotHeader(r io.Reader) (uint64, error) {
	var h [snapshotHeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, fmt.Errorf("read the snapshot's header: %w", err)
	}
	if string(h[:4]) != snapshotMagic {
		return 0, fmt.Errorf("the snapshot begins with %q, want %q: written by another version?", h[:4], snapshotMagic)
	}
	return binary.BigEndian.Uint64(h[4:]), nil
}

// Snapshot implements raft.FSM.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	if a.failed.Load() != nil {
		return nil, errLatched
	}
	return &persister{
		index: a.applied.index.Load(),
		state: a.sm.Snapshot(),
		bytes: a.bytes.Load(),
		a:     a,
	}, nil
}

// Restore implements raft.FSM. An error is latched and not returned: the
// library panics on it after a user's restore.
func (a *applier) Restore(rc io.ReadCloser) error {
	defer rc.Close() //nolint:errcheck // only read
	r := bufio.NewReaderSize(rc, 256<<10)
	index, err := readSnapshotHeader(r)
	if err == nil {
		err = a.sm.Restore(r)
	}
	if err != nil {
		a.latch(&ApplyError{Err: err})
		return nil
	}
	a.bytes.Store(0)
	a.applied.advance(index)
	for _, f := range a.onRestored.list() {
		f(a.applied.index.Load())
	}
	return nil
}

// persister writes one snapshot, beside further applies.
type persister struct {
	index uint64
	state StateSnapshot
	bytes int64
	a     *applier
}

// Persist implements raft.FSMSnapshot.
func (p *persister) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(snapshotHeader(p.index))
	if err == nil {
		_, err = p.state.WriteTo(sink)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("consensus: write the snapshot at %d: %w", p.index, err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	p.a.bytes.Add(-p.bytes)
	return nil
}

// Release implements raft.FSMSnapshot.
func (p *persister) Release() { p.state.Release() }

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
