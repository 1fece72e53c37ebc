package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"
)

// journalDisk is a disk with a journal's file and a database's, either of
// which can lose power: what was not synced is then there or not, sector by
// sector. The database is a map that is durable whenever a call has returned.
type journalDisk struct {
	mu      sync.Mutex
	durable []byte
	dirty   map[int][]byte // sectors that were written and not synced
	syncErr error
	off     bool // the power is gone: nothing happens any more
	cut     bool // it goes with the next sync, before that has done anything

	logs    map[uint64]raft.Log
	stable  map[string][]byte
	lowErr  error
	deletes chan struct{} // if not nil, a deletion waits for it to close
}

const sector = 512

var errOff = errors.New("no power")

func (d *journalDisk) ReadAt(p []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := slices.Clone(d.durable)
	for s, data := range d.dirty {
		copy(b[s*sector:], data)
	}
	return copy(p, b[at:]), nil
}

func (d *journalDisk) WriteAt(p []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return 0, errOff
	}
	for i, c := range p {
		s := (int(at) + i) / sector
		if d.dirty[s] == nil {
			d.dirty[s] = slices.Clone(d.durable[s*sector : (s+1)*sector])
		}
		d.dirty[s][(int(at)+i)%sector] = c
	}
	return len(p), nil
}

func (d *journalDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off = d.off || d.cut; d.off {
		return errOff
	}
	if d.syncErr != nil {
		return d.syncErr
	}
	for s, data := range d.dirty {
		copy(d.durable[s*sector:], data)
	}
	clear(d.dirty)
	return nil
}

func (d *journalDisk) Close() error      { return nil }
func (d *journalDisk) IsMonotonic() bool { return false }

func (d *journalDisk) edge(better func(a, b uint64) bool) (edge uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.logs {
		if edge == 0 || better(i, edge) {
			edge = i
		}
	}
	return edge, nil
}

func (d *journalDisk) FirstIndex() (uint64, error) {
	return d.edge(func(a, b uint64) bool { return a < b })
}

func (d *journalDisk) LastIndex() (uint64, error) {
	return d.edge(func(a, b uint64) bool { return a > b })
}

func (d *journalDisk) GetLog(i uint64, l *raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.logs[i]
	if !ok {
		return raft.ErrLogNotFound
	}
	*l = e
	return nil
}

func (d *journalDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *journalDisk) StoreLogs(ls []*raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off || d.lowErr != nil {
		return errors.Join(errOff, d.lowErr)
	}
	for _, l := range ls {
		e := *l
		e.Data = slices.Clone(l.Data)
		d.logs[l.Index] = e
	}
	return nil
}

func (d *journalDisk) DeleteRange(from, to uint64) error {
	if d.deletes != nil {
		<-d.deletes
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return errOff
	}
	maps.DeleteFunc(d.logs, func(i uint64, _ raft.Log) bool { return from <= i && i <= to })
	return nil
}

func (d *journalDisk) Set(k, v []byte) error { d.stable[string(k)] = slices.Clone(v); return nil }
func (d *journalDisk) Get(k []byte) ([]byte, error) {
	if v, ok := d.stable[string(k)]; ok {
		return v, nil
	}
	return nil, ErrKeyNotFound
}
func (d *journalDisk) SetUint64([]byte, uint64) error   { return nil }
func (d *journalDisk) GetUint64([]byte) (uint64, error) { return 0, nil }

var journalID = []byte("0123456789abcdef")

func newJournalDisk(half int) *journalDisk {
	d := &journalDisk{durable: make([]byte, journalBlock+2*half), dirty: map[int][]byte{}, logs: map[uint64]raft.Log{}, stable: map[string][]byte{}}
	copy(d.durable, journalHead(journalID, half))
	return d
}

// open is what openJournaled does after it has found the file.
func (d *journalDisk) open(t testing.TB) *journaled {
	t.Helper()
	j, rest, err := readJournal(d, journalID)
	if err != nil {
		t.Fatal(err)
	}
	must(t, j.settle(d, rest))
	return newJournaled(d, j)
}

// powerLoss ends everything on this disk and returns what is left of it.
func (d *journalDisk) powerLoss(random *rand.Rand) *journalDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	next := &journalDisk{durable: slices.Clone(d.durable), dirty: map[int][]byte{}, logs: maps.Clone(d.logs), stable: d.stable}
	for s, data := range d.dirty {
		if random.IntN(2) == 0 {
			copy(next.durable[s*sector:], data)
		}
	}
	return next
}

// wantModel checks that a log holds what the model says, and perhaps the
// entries of one append behind it that was never acknowledged.
func wantModel(t *testing.T, b *journaled, model map[uint64]uint64, unknown []*raft.Log) {
	t.Helper()
	last, first := uint64(0), uint64(0)
	for i, term := range model {
		var l raft.Log
		if err := b.GetLog(i, &l); err != nil || l.Term != term || string(l.Data) != journalData(i, term) {
			t.Fatalf("entry %d of term %d: %d %.20q, %v", i, term, l.Term, l.Data, err)
		}
		last = max(last, i)
		if first == 0 || i < first {
			first = i
		}
	}
	got, err := b.LastIndex()
	must(t, err)
	if n := len(unknown); got != last && (n == 0 || got != unknown[n-1].Index) {
		t.Fatalf("last index %d, want %d, or that of an append without an answer", got, last)
	}
	if got, err = b.FirstIndex(); err != nil || got != first && len(model) > 0 {
		t.Fatalf("first index %d, %v, want %d", got, err, first)
	}
}

// journalData looks as random as sealed data: two torn writes of different
// entries never make a whole one together.
func journalData(i, term uint64) string {
	random := rand.New(rand.NewPCG(i, term))
	b := make([]byte, i*37%900)
	for k := range b {
		b[k] = byte(random.Uint32())
	}
	return fmt.Sprintf("%d of %d", i, term) + string(b)
}

func journalEntries(from, to, term uint64) (ls []*raft.Log) {
	for i := from; i <= to; i++ {
		ls = append(ls, &raft.Log{Index: i, Term: term, Data: []byte(journalData(i, term))})
	}
	return ls
}

// Power is lost again and again, at every kind of moment: what was acknowledged
// is there, what was deleted stays deleted.
//
// guards P1
func TestJournalSurvivesLossesOfPower(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 3))
		d := newJournalDisk(4096 << random.IntN(3))
		model, term := map[uint64]uint64{}, uint64(1)
		first, last := uint64(1), uint64(0) // of the model
		for range 1 + random.IntN(4) {
			b := d.open(t)
			wantModel(t, b, model, nil)
			for range random.IntN(6) * random.IntN(8) {
				switch random.IntN(10) {
				case 0: // a conflict
					if last <= first {
						continue
					}
					from := first + 1 + random.Uint64N(last-first)
					must(t, b.DeleteRange(from, last))
					maps.DeleteFunc(model, func(i, _ uint64) bool { return i >= from })
					last, term = from-1, term+1
				case 1: // compaction
					if last <= first {
						continue
					}
					to := first + random.Uint64N(last-first)
					must(t, b.DeleteRange(first, to))
					maps.DeleteFunc(model, func(i, _ uint64) bool { return i <= to })
					first = to + 1
				default:
					add := journalEntries(last+1, last+1+random.Uint64N(12), term)
					must(t, b.StoreLogs(add))
					for _, l := range add {
						model[l.Index] = term
					}
					last += uint64(len(add))
				}
			}
			wantModel(t, b, model, nil)
			// The last append races with the loss. Whoever leads next has a new term.
			term++
			unknown := journalEntries(last+1, last+1+random.Uint64N(12), term)
			var wg sync.WaitGroup
			var answer error
			if d.cut = random.IntN(2) == 0; d.cut { // in its middle
				answer = b.StoreLogs(unknown)
			} else {
				wg.Go(func() { answer = b.StoreLogs(unknown) })
			}
			d = d.powerLoss(random)
			wg.Wait()
			_ = b.Close() // of a dead disk: ends the mover
			if answer == nil {
				for _, l := range unknown {
					model[l.Index] = term
				}
				last += uint64(len(unknown))
				unknown = nil
			}
			b = d.open(t)
			wantModel(t, b, model, unknown)
			if got, _ := b.LastIndex(); got > last { // it is there: from now on it stays
				for _, l := range unknown {
					model[l.Index] = term
				}
				last = got
			}
			if random.IntN(2) == 0 {
				must(t, b.Close())
			} else { // lost again before anything was written
				d = d.powerLoss(random)
				_ = b.Close()
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// Damage to what the database does not have yet is noticed; a torn end is none.
func TestJournalNoticesDamage(t *testing.T) {
	const half = 8192
	d := newJournalDisk(half)
	b := d.open(t)
	d.mu.Lock()
	d.lowErr = errors.New("not now") // nothing is moved
	d.mu.Unlock()
	for i := uint64(1); i <= 5; i++ {
		must(t, b.StoreLogs(journalEntries(i, i, 1)))
	}
	_ = b.Close()
	starts := []int{}
	for i := uint64(1); i <= 5; i++ {
		starts = append(starts, recordSize(journalEntries(i, i, 1)))
	}
	at := journalBlock + half // the first round is in the second half
	for n, size := range starts {
		for _, off := range []int{0, 5, 9, 17, 25, 33, 37, recordHeader, size - recordAlign} {
			bad := &journalDisk{durable: slices.Clone(d.durable), dirty: map[int][]byte{}}
			bad.durable[at+off] ^= 4
			_, rest, err := readJournal(bad, journalID)
			switch {
			case n < 4 && !errors.Is(err, errInconsistent) && len(rest) != 5: // a flipped pad changes nothing
				t.Errorf("record %d, byte %d: %d entries, %v", n+1, off, len(rest), err)
			case n == 4 && (err != nil || len(rest) != 4 && len(rest) != 5):
				t.Errorf("the last record, byte %d: %d entries, %v", off, len(rest), err)
			}
		}
		at += size
	}
	if _, _, err := readJournal(d, []byte("another database")); !errors.Is(err, errInconsistent) {
		t.Errorf("another database's journal: %v", err)
	}
	d.durable[4] = journalVersion + 1
	if _, _, err := readJournal(d, journalID); !errors.Is(err, ErrFormat) {
		t.Errorf("a newer version: %v", err)
	}
}

// After a failed write nothing is written any more, on either side.
//
// guards P12
func TestJournalStopsAfterAFailure(t *testing.T) {
	broken := errors.New("input/output error")
	for name, spoil := range map[string]func(*journalDisk){
		"of the journal": func(d *journalDisk) { d.syncErr = broken },
		"of the mover":   func(d *journalDisk) { d.lowErr = broken },
	} {
		t.Run(name, func(t *testing.T) {
			d := newJournalDisk(4096)
			b := d.open(t)
			must(t, b.StoreLogs(journalEntries(1, 3, 1)))
			d.mu.Lock()
			spoil(d)
			d.mu.Unlock()
			var err error
			acked := uint64(3)
			for ; err == nil && acked < 1000; acked++ {
				err = b.StoreLogs(journalEntries(acked+1, acked+1, 1))
			}
			wantErr(t, err, broken)
			acked--
			d.mu.Lock()
			d.syncErr, d.lowErr = nil, nil
			d.mu.Unlock()
			wantErr(t, b.StoreLogs(journalEntries(acked+1, acked+1, 1)), broken)
			wantErr(t, b.DeleteRange(1, 1), broken)
			must(t, b.Close())
			b = d.open(t)
			if last, err := b.LastIndex(); err != nil || last < acked {
				t.Errorf("acknowledged %d, kept %d, %v", acked, last, err)
			}
			must(t, b.Close())
		})
	}
}

// Appends go on while old entries are deleted.
func TestJournalAppendsBesideADeletion(t *testing.T) {
	d := newJournalDisk(64 << 10)
	b := d.open(t)
	must(t, b.StoreLogs(journalEntries(1, 20, 1)))
	d.deletes = make(chan struct{})
	deleted := make(chan error)
	go func() { deleted <- b.DeleteRange(1, 10) }()
	must(t, b.StoreLogs(journalEntries(21, 25, 1)))
	select {
	case err := <-deleted:
		t.Fatalf("the deletion ended: %v", err)
	default:
	}
	close(d.deletes)
	must(t, <-deleted)
	must(t, b.Close())
	if first, _ := d.FirstIndex(); first != 11 {
		t.Errorf("first index %d, want 11", first)
	}
	if last, _ := d.LastIndex(); last != 25 {
		t.Errorf("last index %d, want 25", last)
	}
}

// What does not fit into the journal is stored all the same, in its order.
func TestJournalStoresWhatIsLargerThanItself(t *testing.T) {
	d := newJournalDisk(4096)
	b := d.open(t)
	must(t, b.StoreLogs(journalEntries(1, 2, 1)))
	must(t, b.StoreLogs(journalEntries(3, 40, 1)))
	must(t, b.StoreLogs(journalEntries(41, 42, 1)))
	model := map[uint64]uint64{}
	for i := range uint64(42) {
		model[i+1] = 1
	}
	wantModel(t, b, model, nil)
	must(t, b.Close())
	b = d.open(t)
	wantModel(t, b, model, nil)
	must(t, b.Close())
}

// A store whose journal is gone, or another's, is not served: its newest
// entries were there.
//
// guards P1
func TestStoreWithoutItsJournal(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Logs().StoreLogs(entries(1, 5, 1)))
	must(t, s.Close())
	path := filepath.Join(o.Dir, "log.journal")
	kept, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Remove(path))
	_, err = Open(o)
	wantErr(t, err, ErrDamaged)
	if !strings.Contains(err.Error(), path) || !NeedsRejoin(err) {
		t.Errorf("%v", err)
	}
	other := options(privateDir(t))
	must(t, create(t, other).Close())
	foreign, err := os.ReadFile(filepath.Join(other.Dir, "log.journal"))
	must(t, err)
	must(t, os.WriteFile(path, foreign, 0o600))
	_, err = Open(o)
	wantErr(t, err, ErrDamaged)
	must(t, os.WriteFile(path, kept, 0o644))
	must(t, os.Chmod(path, 0o644))
	_, err = Open(o)
	wantErr(t, err, ErrPermissions)
	must(t, os.Chmod(path, 0o600))
	s = mustOpen(t, o)
	wantRange(t, s.Logs(), 1, 5)
}

// A store of a release without a journal gets one.
func TestStoreOfAReleaseWithoutAJournal(t *testing.T) {
	o := options(privateDir(t))
	o.Backend = OpenBolt
	s := create(t, o)
	must(t, s.Logs().StoreLogs(entries(1, 5, 1)))
	must(t, s.Close())
	o.Backend = nil
	s = mustOpen(t, o)
	must(t, s.Logs().StoreLogs(entries(6, 9, 1)))
	s = reopen(t, s, o)
	wantRange(t, s.Logs(), 1, 9)
}

func FuzzReadJournal(f *testing.F) {
	d := newJournalDisk(1024)
	j, _, err := readJournal(d, journalID)
	if err != nil {
		f.Fatal(err)
	}
	for i := uint64(1); i < 4; i++ {
		buf, _ := j.encode(nil, 0, journalEntries(i, i, 1))
		if err := j.append(buf); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(slices.Clone(d.durable[journalBlock:]))
	f.Fuzz(func(t *testing.T, halves []byte) {
		d := newJournalDisk(1024)
		copy(d.durable[journalBlock:], halves)
		if _, _, err := readJournal(d, journalID); err != nil && !errors.Is(err, errInconsistent) {
			t.Errorf("%v", err)
		}
	})
}
