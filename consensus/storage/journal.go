package storage

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// journaled is a Backend that makes appends durable in a journal and moves them
// to the backend below in large strokes.
//
// The naive design gives every append to bbolt. That costs two syncs, one after
// the other (the pages, then the page that makes them count), and a dozen
// scattered pages for an entry of a few hundred bytes: for a lone client half
// of a commit's time. To turn bbolt's syncs off and keep a journal beside it
// breaks: bbolt reuses pages that an unsynced root still needs, and a loss of
// power leaves a file that no journal can mend.
//
// Here bbolt keeps its syncs and is always sound, only behind. An append is one
// overwrite of a file that has its blocks already, and one sync. The mover
// gives what the journal holds to bbolt, many entries per transaction; what it
// has not yet given is read from memory. At open the rest of the journal goes
// to bbolt first.
//
// What is not an append goes straight to the backend below: term and vote are
// rare. A deletion first waits until everything is moved and has the journal say
// so (journal.check), because an entry that is deleted below must not come back
// from the journal.
type journaled struct {
	low Backend

	write   sync.Mutex // held while the journal is written; guards journal
	journal *journal

	mu      sync.Mutex // never held during a write; guards what follows
	moved   *sync.Cond // done or failed has changed
	waiting []batch    // in the journal alone, in order
	moving  []batch    // on their way, older than waiting
	bytes   int        // of waiting
	done    uint64     // records up to this one are below
	failed  error      // nothing is written any more
	spare   [][]byte   // buffers of records that were moved

	some chan struct{} // capacity 1: there is something to move, in a while
	now  chan struct{} // capacity 1: move what there is
	end  chan struct{} // closed by Close
	gone chan struct{} // closed when the mover has ended
}

// batch is a record's entries in memory.
type batch struct {
	seq  uint64
	logs []raft.Log
	buf  []byte // what their Data lies in
}

const (
	// moveBytes is a stroke that keeps bbolt's two syncs rare and its pages few,
	// and still ends within some tens of milliseconds on a slow disk.
	moveBytes = 1 << 20
	// moveAfter bounds what a start has to move after a crash at a low rate.
	moveAfter = time.Second
	// spareBuffers are as many as one stroke of small appends frees.
	spareBuffers = 64
)

// Journaled returns a way to open a backend behind a journal. The journal lies
// beside the backend's file, with the extension .journal.
func Journaled(open OpenBackend) OpenBackend {
	return func(path string) (Backend, error) {
		low, err := open(path)
		if err != nil {
			return nil, err
		}
		b, err := openJournaled(low, journalPath(path))
		if err != nil {
			return nil, errors.Join(err, low.Close())
		}
		return b, nil
	}
}

func newJournaled(low Backend, j *journal) *journaled {
	b := &journaled{low: low, journal: j, done: j.seq,
		some: make(chan struct{}, 1), now: make(chan struct{}, 1), end: make(chan struct{}), gone: make(chan struct{})}
	b.moved = sync.NewCond(&b.mu)
	go b.move()
	return b
}

// IsMonotonic is the backend's below: this one keeps its gaps.
func (b *journaled) IsMonotonic() bool { return b.low.IsMonotonic() }

// FirstIndex implements raft.LogStore.
func (b *journaled) FirstIndex() (uint64, error) {
	here := b.edge(func(logs []raft.Log) uint64 { return logs[0].Index }, false)
	low, err := b.low.FirstIndex()
	if err != nil || low != 0 {
		return low, err
	}
	return here, nil
}

// LastIndex implements raft.LogStore.
func (b *journaled) LastIndex() (uint64, error) {
	if here := b.edge(func(logs []raft.Log) uint64 { return logs[len(logs)-1].Index }, true); here != 0 {
		return here, nil
	}
	return b.low.LastIndex()
}

// edge asks the oldest or the newest batch in memory, 0 if there is none.
func (b *journaled) edge(ask func([]raft.Log) uint64, newest bool) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := [2][]batch{b.moving, b.waiting}
	if newest {
		all[0], all[1] = all[1], all[0]
	}
	for _, batches := range all {
		if n := len(batches); n > 0 && newest {
			return ask(batches[n-1].logs)
		} else if n > 0 {
			return ask(batches[0].logs)
		}
	}
	return 0
}

// GetLog implements raft.LogStore.
func (b *journaled) GetLog(i uint64, l *raft.Log) error {
	if b.recent(i, l) {
		return nil
	}
	return b.low.GetLog(i, l)
}

func (b *journaled) recent(i uint64, l *raft.Log) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, batches := range [2][]batch{b.waiting, b.moving} {
		for n := len(batches) - 1; n >= 0; n-- {
			for k := range batches[n].logs {
				if e := &batches[n].logs[k]; e.Index == i {
					*l = *e
					l.Data = append([]byte(nil), e.Data...) // the buffer is used again
					return true
				}
			}
		}
	}
	return false
}

// StoreLog implements raft.LogStore.
func (b *journaled) StoreLog(l *raft.Log) error { return b.StoreLogs([]*raft.Log{l}) }

// StoreLogs returns when the journal has the entries on the disk.
func (b *journaled) StoreLogs(ls []*raft.Log) error {
	b.write.Lock()
	defer b.write.Unlock()
	if len(ls) == 0 {
		return b.failure()
	}
	if recordSize(ls) > b.journal.half {
		return b.storeBelow(ls)
	}
	return b.append(ls)
}

// storeBelow stores what is too large for the journal, in its order.
func (b *journaled) storeBelow(ls []*raft.Log) error {
	if err := b.await(b.journal.seq); err != nil {
		return err
	}
	if err := b.low.StoreLogs(ls); err != nil {
		return b.fail(err)
	}
	return nil
}

// append writes one record. The caller holds write.
func (b *journaled) append(ls []*raft.Log) error {
	size := recordSize(ls)
	if !b.journal.fits(size) {
		// The other half is used again: its records must be below, and the file
		// must say so before the first of them is written over.
		if err := b.await(b.journal.other()); err != nil {
			return err
		}
		if err := b.journal.check(b.progress()); err != nil {
			return b.fail(err)
		}
		b.journal.turn()
	}
	b.mu.Lock()
	err, done := b.failed, b.done
	var buf []byte
	if n := len(b.spare); n > 0 {
		buf, b.spare = b.spare[n-1], b.spare[:n-1]
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	buf, logs := b.journal.encode(buf, done, ls)
	if err := b.journal.append(buf); err != nil {
		return b.fail(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		poke(b.some)
	}
	b.waiting = append(b.waiting, batch{seq: b.journal.seq, logs: logs, buf: buf})
	if b.bytes += size; b.bytes >= moveBytes {
		poke(b.now)
	}
	return nil
}

// DeleteRange implements raft.LogStore. While old entries are deleted appends
// go on.
func (b *journaled) DeleteRange(min, max uint64) error {
	b.write.Lock()
	unlock := sync.OnceFunc(b.write.Unlock)
	defer unlock()
	if err := b.await(b.journal.seq); err != nil {
		return err
	}
	if err := b.journal.check(b.journal.seq); err != nil {
		return b.fail(err)
	}
	last, err := b.low.LastIndex()
	if err != nil {
		return b.fail(err)
	}
	if max < last {
		unlock()
	}
	if err := b.low.DeleteRange(min, max); err != nil {
		return b.fail(err)
	}
	return nil
}

// Set implements raft.StableStore.
func (b *journaled) Set(k, v []byte) error { return b.low.Set(k, v) }

// Get implements raft.StableStore.
func (b *journaled) Get(k []byte) ([]byte, error) { return b.low.Get(k) }

// SetUint64 implements raft.StableStore.
func (b *journaled) SetUint64(k []byte, v uint64) error { return b.low.SetUint64(k, v) }

// GetUint64 implements raft.StableStore.
func (b *journaled) GetUint64(k []byte) (uint64, error) { return b.low.GetUint64(k) }

// Close moves what is left, unless a write has failed: then the next open does.
func (b *journaled) Close() error {
	b.write.Lock()
	defer b.write.Unlock()
	close(b.end)
	<-b.gone
	var err error
	if b.failure() == nil {
		err = b.journal.check(b.journal.seq) // the next open has nothing to move
		_ = b.fail(ErrClosed)
	}
	return errors.Join(err, b.low.Close(), b.journal.close())
}

// progress is the last record that is below.
func (b *journaled) progress() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

func (b *journaled) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// fail keeps the first error: what follows a failed write cannot be trusted.
func (b *journaled) fail(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = err
	}
	b.moved.Broadcast()
	return b.failed
}

// await returns when all records up to one are below.
func (b *journaled) await(seq uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.done < seq && b.failed == nil {
		poke(b.now)
		b.moved.Wait()
	}
	return b.failed
}

// move is the mover: it owns the way from the journal to the backend below.
func (b *journaled) move() {
	defer close(b.gone)
	timer := time.NewTimer(moveAfter)
	defer timer.Stop()
	for ended := false; !ended; {
		select {
		case <-b.some:
			timer.Reset(moveAfter)
			select {
			case <-timer.C:
			case <-b.now:
			case <-b.end:
				ended = true
			}
		case <-b.now:
		case <-b.end:
			ended = true
		}
		b.moveAll()
	}
}

func (b *journaled) moveAll() {
	b.mu.Lock()
	if b.failed != nil || len(b.waiting) == 0 {
		b.mu.Unlock()
		return
	}
	b.moving, b.waiting, b.bytes = b.waiting, nil, 0
	batches := b.moving
	b.mu.Unlock()

	var logs []*raft.Log
	for i := range batches {
		for k := range batches[i].logs {
			logs = append(logs, &batches[i].logs[k])
		}
	}
	if err := b.low.StoreLogs(logs); err != nil {
		_ = b.fail(fmt.Errorf("move %d entries from the journal: %w", len(logs), err)) // the next write says it
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moving, b.done = nil, batches[len(batches)-1].seq
	for i := range batches {
		if len(b.spare) < spareBuffers {
			b.spare = append(b.spare, batches[i].buf)
		}
	}
	b.moved.Broadcast()
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
