package storage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// The journal's file has all its blocks from the start, so that an append
// changes nothing but bytes and its sync writes nothing but them. It has one
// block that says whose it is, and two halves, used in turn:
//
//	block of 4,096 bytes: magic 4, version 4, ID 16, bytes of a half 8, CRC 4;
//		at 2,048 a check: done 8, CRC 4
//	half: records, one after the other, each at a multiple of 8
//	record: magic 4, CRC 4, round 8, number 8, done 8, bytes of the entries 4, their count 4
//	entry: index 8, term 8, type 1, length 4, sealed data
//
// Little endian; the CRC is Castagnoli's, over the journal's ID and all of the
// record behind the CRC. A round is one use of a half. Records are numbered
// without gaps; done is the number up to which the database had them all when
// the record was written.
//
// A check says the same as a record's done, where a record would come too late:
// before entries are deleted from the database, at the end, before a half is
// used again, and at open when what was left has been moved. Otherwise a record
// that is torn has destroyed what the newest sound one still asks for. A torn
// check does no harm: a newer one is only written where a sound record says at
// least as much as the one before.
//
// At open every place where a record may begin is looked at. From the highest
// done on all records must be there, up to the newest: only what came after it,
// one append that was never acknowledged, may be torn. Anything else is damage.

// blockFile is what a journal is written to.
type blockFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

const (
	journalMagic   = 0x72_6a_66_68 // "hfjr"
	fileMagic      = 0x6c_6a_66_68 // "hfjl"
	journalVersion = 1
	journalBlock   = 4096
	journalHalf    = 4 << 20 // a few strokes of the mover
	recordHeader   = 40
	recordEntry    = 21
	recordAlign    = 8
	checkAt        = 2048 // in the first block
	checkSize      = 12
	journalIDSize  = 16
)

// journalKey names the journal in the database, so that a lost one is noticed.
var journalKey = []byte("holdfast/journal")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the writing end of the file. Not safe for concurrent use.
type journal struct {
	f       blockFile
	sum     uint32 // of the ID: where each record's CRC begins
	half    int
	round   uint64
	seq     uint64    // of the last record
	at      int       // where the next one goes, within the half
	last    [2]uint64 // of each half, the number of its last record
	checked uint64    // what the check says
}

func journalPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ".journal"
}

func align(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }

func recordSize(ls []*raft.Log) int {
	n := recordHeader
	for _, l := range ls {
		n += recordEntry + len(l.Data)
	}
	return align(n)
}

func (j *journal) fits(size int) bool { return j.at+size <= j.half }

// other is the last record of the half that turn begins to overwrite.
func (j *journal) other() uint64 { return j.last[(j.round+1)%2] }

func (j *journal) turn() {
	j.round++
	j.at = 0
}

// encode makes the next record in buf, and the entries with their data in it.
func (j *journal) encode(buf []byte, done uint64, ls []*raft.Log) ([]byte, []raft.Log) {
	le, size := binary.LittleEndian, recordSize(ls)
	if cap(buf) < size {
		buf = make([]byte, 0, size)
	}
	buf = le.AppendUint32(buf[:0], journalMagic)
	buf = le.AppendUint32(buf, 0)
	buf = le.AppendUint64(buf, j.round)
	buf = le.AppendUint64(buf, j.seq+1)
	buf = le.AppendUint64(buf, done)
	buf = le.AppendUint32(buf, 0)
	buf = le.AppendUint32(buf, uint32(len(ls)))
	logs := make([]raft.Log, 0, len(ls))
	for _, l := range ls {
		buf = le.AppendUint64(buf, l.Index)
		buf = le.AppendUint64(buf, l.Term)
		buf = append(buf, byte(l.Type))
		buf = le.AppendUint32(buf, uint32(len(l.Data)))
		start := len(buf)
		buf = append(buf, l.Data...)
		logs = append(logs, raft.Log{Index: l.Index, Term: l.Term, Type: l.Type, Data: buf[start:len(buf):len(buf)]})
	}
	le.PutUint32(buf[32:], uint32(len(buf)-recordHeader))
	le.PutUint32(buf[4:], crc32.Update(j.sum, castagnoli, buf[8:]))
	return append(buf, make([]byte, size-len(buf))...), logs
}

// append writes what encode made and returns when it is on the disk.
func (j *journal) append(record []byte) error {
	half := int(j.round % 2)
	if _, err := j.f.WriteAt(record, int64(journalBlock+half*j.half+j.at)); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("sync the journal: %w", err)
	}
	j.seq++
	j.at += len(record)
	j.last[half] = j.seq
	return nil
}

// check writes that the database has all records up to one, and returns when
// that is on the disk.
func (j *journal) check(done uint64) error {
	if done == j.checked {
		return nil
	}
	b := binary.LittleEndian.AppendUint64(nil, done)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(j.sum, castagnoli, b))
	if _, err := j.f.WriteAt(b, checkAt); err != nil {
		return fmt.Errorf("write the journal's check: %w", err)
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("sync the journal's check: %w", err)
	}
	j.checked = done
	return nil
}

func (j *journal) close() error { return j.f.Close() }

// dataFile syncs what its size and times do not matter to.
type dataFile struct{ *os.File }

func (f dataFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// openJournaled opens the journal of a database, or makes it for one that has
// none, and moves what it holds.
func openJournaled(low Backend, path string) (*journaled, error) {
	id, err := low.Get(journalKey)
	if err != nil && err.Error() != ErrKeyNotFound.Error() {
		return nil, err
	}
	if len(id) == 0 {
		// A file that lies here already was never written to: its ID comes first.
		if id, err = makeJournal(path, journalHalf); err != nil {
			return nil, fmt.Errorf("make the log's journal: %w", err)
		}
		if err := low.Set(journalKey, id); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, fileMode)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &DamageError{File: path, Where: "the whole file", Err: errors.New("the log's newest entries were here, it is gone")}
	} else if err != nil {
		return nil, err
	}
	j, rest, err := readJournal(dataFile{f}, id)
	if err == nil {
		err = j.settle(low, rest)
	}
	if err != nil {
		if errors.Is(err, errInconsistent) {
			err = &DamageError{File: path, Where: "journal", Err: err}
		}
		return nil, errors.Join(err, f.Close())
	}
	return newJournaled(low, j), nil
}

// makeJournal writes a new, empty journal and returns its ID.
func makeJournal(path string, half int) ([]byte, error) {
	id := make([]byte, journalIDSize)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	b := make([]byte, journalBlock+2*half) // zeros, not a hole: all blocks are there
	copy(b, journalHead(id, half))
	return id, writeFile(path, b, false)
}

func journalHead(id []byte, half int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, fileMagic)
	b = le.AppendUint32(b, journalVersion)
	b = append(b, id...)
	b = le.AppendUint64(b, uint64(half))
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// settle gives the database what a crash left in the journal, so that its
// places may be written over.
func (j *journal) settle(low Backend, rest []raft.Log) error {
	for from := 0; from < len(rest); {
		var stroke []*raft.Log
		for size := 0; from < len(rest) && size < moveBytes; from++ {
			size += len(rest[from].Data)
			stroke = append(stroke, &rest[from])
		}
		if err := low.StoreLogs(stroke); err != nil {
			return fmt.Errorf("move %d entries from the journal: %w", len(stroke), err)
		}
	}
	return j.check(j.seq)
}
