package consensus

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// overlap is raft's log store. It lets a leader write its own disk while it
// replicates.
//
// The naive design is the library's: the leader's loop calls StoreLogs, waits
// for the disk, counts itself, and only then wakes the replication. A commit
// costs the leader's disk, the network and a follower's disk, one after the
// other. The next naive design returns from StoreLogs early. Then the library
// counts this node's copy while it is only in memory, and takes an entry for
// committed that one other disk of three holds. If this node loses its power
// now, the other two voters' majority may not know the entry, and whatever had
// come of it was wrong: an answer to a client, a read, a follower's state, a
// snapshot.
//
// Here StoreLogs returns early to a leader, and nothing that came of a write in
// flight leaves the memory of this node. While the node lives, its memory is as
// good as its disk: it votes against every candidate without the entry. When it
// dies, all that knew of the early commit dies with it. So each way out is shut
// until the disk has answered:
//
//   - the state machine is given an entry when it is durable here (applier), so
//     that no client and no reader hears of it before. Configuration changes
//     are answered under the same rule (Group.change);
//   - the commit index in AppendEntries, and in what Group tells, is clamped to
//     what is durable here (clamp). Otherwise a follower applies an entry that
//     no majority of disks holds;
//   - a snapshot waits for every write that was handed in before it. The library
//     gives it the index of the last entry that passed, also of a barrier, which
//     no state machine is shown. The snapshot would make up for the entry, but
//     the log would have a hole at its end;
//   - before this node follows, that is answers AppendEntries or
//     InstallSnapshot of a term as new as its own, its tail is durable (yield):
//     the leader counts the answer as a copy on this disk. (Version 1.8 commits
//     only by entries of its own term, and this store writes none before the
//     tail; yield keeps the promise without leaning on that.)
//
// What then is committed, is committed as the paper means it: once the write is
// done, every copy that was counted lies on a disk.
//
// What needs no wait, and why:
//
//   - Votes. A voter compares logs so that a committed entry's majority is
//     asked. With a tail in memory it refuses more candidates, never fewer. A
//     candidate's log is judged by what it will act from as a leader, which is
//     its memory; if it loses that, it is no leader any more, and it never leads
//     the same term again, because term and vote are durable before the first
//     entry. So no two entries share index and term.
//   - Heartbeats. They carry no entries and no commit index, and the library
//     counts no copy by them.
//   - The first entry of a term, a change of the configuration, a transfer, a
//     user's restore. The library begins a change when it holds the one before
//     for committed; the next append waits for the write before it, so that by
//     then it is. A leader that removed itself is not counted. A restore stores
//     a snapshot, durable when it returns, above everything in flight.
//
// At most one write is in flight. The next one, a deletion and the end wait for
// it, so the order on the disk is raft's. With one entry in flight in the
// proposer nothing is lost by that.
//
// Who may return early is decided by the library's own state: only the main
// goroutine becomes Leader and only it stores entries, so Leader during
// StoreLogs means the leader's own append. Everything else, and all doubt (a
// group of one voter, an older term), is written through.
type overlap struct {
	raft.LogStore // below; its writes are durable when they return
	raft          atomic.Pointer[raft.Raft]
	dead          <-chan struct{} // frees all who wait
	onFailed      func(error)     // the write in flight has failed
	mutants       mutants

	pending atomic.Pointer[pendingWrite] // nil: all is durable. A failed one stays.
	work    chan *pendingWrite           // capacity 1
	writer  sync.WaitGroup

	mu     sync.Mutex
	floor  uint64 // entries of this term and older are written through; guarded by mu
	closed bool   // guarded by mu
}

// pendingWrite is a contiguous batch under way to the disk.
type pendingWrite struct {
	logs        []*raft.Log // shared with raft: nobody changes entries
	first, last uint64
	done        chan struct{}
	err         error // set before done is closed
}

// mutants take safeguards away, for the test that must notice.
type mutants struct{ noClamp, noApplyWait, noSnapshotWait, noYield bool }

func newOverlap(cfg *Config, dead <-chan struct{}, onFailed func(error)) *overlap {
	return &overlap{LogStore: cfg.Logs, dead: dead, onFailed: onFailed, mutants: cfg.mutants, work: make(chan *pendingWrite, 1)}
}

// start begins to overlap. Before it, everything is written through.
func (o *overlap) start(r *raft.Raft) {
	o.writer.Go(o.write)
	o.raft.Store(r)
}

// close waits for the write in flight, as long as the disk takes. Raft must
// have stopped.
func (o *overlap) close() {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.work)
	}
	o.mu.Unlock()
	o.writer.Wait()
}

// write is the goroutine between this store and the disk. There is one for all
// writes: a commit in bbolt needs a deep stack, which a new one would grow anew.
func (o *overlap) write() {
	for p := range o.work {
		if p.err = o.LogStore.StoreLogs(p.logs); p.err == nil {
			o.pending.Store(nil)
			close(p.done)
			continue
		}
		p.err = fmt.Errorf("consensus: append entries %d to %d to this leader's log; restart the node once the disk is sound: %w", p.first, p.last, p.err)
		close(p.done)
		o.onFailed(p.err)
	}
}

// IsMonotonic implements raft.MonotonicLogStore for the store below.
func (o *overlap) IsMonotonic() bool {
	m, ok := o.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// StoreLog implements raft.LogStore.
func (o *overlap) StoreLog(l *raft.Log) error { return o.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. It returns when the entries are durable,
// or, to a leader, when they are on their way.
func (o *overlap) StoreLogs(logs []*raft.Log) error {
	if err := o.settle(); err != nil {
		return err
	}
	if !o.leads(logs) {
		return o.LogStore.StoreLogs(logs)
	}
	p := &pendingWrite{logs: logs, first: logs[0].Index, last: logs[len(logs)-1].Index, done: make(chan struct{})}
	o.mu.Lock()
	behind := !o.closed && logs[0].Term > o.floor
	if behind {
		o.pending.Store(p)
		o.work <- p // empty: nothing is in flight
	}
	o.mu.Unlock()
	if !behind {
		return o.LogStore.StoreLogs(logs)
	}
	return nil
}

// leads reports whether logs are an append of this node's own, in its present
// term, with somebody to replicate to meanwhile.
func (o *overlap) leads(logs []*raft.Log) bool {
	r := o.raft.Load()
	if r == nil || len(logs) == 0 || r.State() != raft.Leader {
		return false
	}
	term := r.CurrentTerm()
	for i, l := range logs {
		if l.Term != term || l.Index != logs[0].Index+uint64(i) {
			return false
		}
	}
	voters := 0
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters > 1
}

// DeleteRange implements raft.LogStore.
func (o *overlap) DeleteRange(from, to uint64) error {
	if err := o.settle(); err != nil {
		return err
	}
	return o.LogStore.DeleteRange(from, to)
}

// GetLog implements raft.LogStore. A write in flight can be read, that is what
// replication sends; so can a failed one: raft panics when it cannot read an
// entry that it has stored, and that would rob the node of its orderly exit.
func (o *overlap) GetLog(i uint64, l *raft.Log) error {
	if p := o.pending.Load(); p != nil && i >= p.first && i <= p.last {
		*l = *p.logs[i-p.first]
		return nil
	}
	return o.LogStore.GetLog(i, l)
}

// FirstIndex implements raft.LogStore. What is in flight is looked at first: if
// it ends meanwhile, the store below has it.
func (o *overlap) FirstIndex() (uint64, error) {
	p := o.pending.Load()
	first, err := o.LogStore.FirstIndex()
	if err == nil && first == 0 && p != nil {
		first = p.first
	}
	return first, err
}

// LastIndex implements raft.LogStore.
func (o *overlap) LastIndex() (uint64, error) {
	if p := o.pending.Load(); p != nil {
		return p.last, nil
	}
	return o.LogStore.LastIndex()
}

// wait returns when everything up to index is durable here. An error means
// that it may never be.
func (o *overlap) wait(index uint64) error {
	for {
		p := o.pending.Load()
		if p == nil || index < p.first {
			return nil
		}
		if err := o.await(p); err != nil {
			return err
		}
	}
}

// settle returns when the write in flight is durable.
func (o *overlap) settle() error {
	if p := o.pending.Load(); p != nil {
		return o.await(p)
	}
	return nil
}

func (o *overlap) await(p *pendingWrite) error {
	select {
	case <-p.done:
		return p.err
	default:
	}
	select {
	case <-p.done:
		return p.err
	case <-o.dead:
		return errUnsettled
	}
}

var errUnsettled = errors.New("consensus: the group ended before the disk had finished an append")

// clamp lowers a commit index to what is durable here.
func (o *overlap) clamp(commit uint64) uint64 {
	if p := o.pending.Load(); p != nil && commit >= p.first && !o.mutants.noClamp {
		return p.first - 1
	}
	return commit
}

// yield returns when raft may be handed a request of a leader of term: what is
// in flight has become durable, and from here on nothing of this term or an
// older one is left in flight. Only an entry of a later term can be, and then
// raft refuses the request as outdated.
func (o *overlap) yield(term uint64) error {
	if o.mutants.noYield {
		return nil
	}
	o.mu.Lock()
	o.floor = max(o.floor, term)
	p := o.pending.Load()
	o.mu.Unlock()
	if p == nil {
		return nil
	}
	return o.await(p)
}

// applicable, before the state machine is given entries up to index.
func (o *overlap) applicable(index uint64) error {
	if o.mutants.noApplyWait {
		return nil
	}
	return o.wait(index)
}

// coverable, before a snapshot is taken of all that was handed over.
func (o *overlap) coverable() error {
	if o.mutants.noSnapshotWait {
		return nil
	}
	return o.wait(math.MaxUint64)
}
