package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// scanned is a sound record that was found in the file.
type scanned struct {
	round, seq, done uint64
	logs             []raft.Log
}

// readJournal reads a journal and returns it ready for the next record, with
// the entries that the database may not have. Errors are errInconsistent, or
// the file's.
func readJournal(f blockFile, id []byte) (*journal, []raft.Log, error) {
	head := make([]byte, 4+4+journalIDSize+8+4)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, nil, fmt.Errorf("%w: read its head: %w", errInconsistent, err)
	}
	le := binary.LittleEndian
	half := le.Uint64(head[8+journalIDSize:])
	if le.Uint32(head) == fileMagic && le.Uint32(head[4:]) > journalVersion {
		return nil, nil, fmt.Errorf("the journal is of version %d, this release knows %d: %w", le.Uint32(head[4:]), journalVersion, ErrFormat)
	}
	if half > 1<<30 || !bytes.Equal(head, journalHead(id, int(half))) {
		return nil, nil, fmt.Errorf("%w: its head is not that of the database's journal", errInconsistent)
	}
	j := &journal{f: f, half: int(half), sum: crc32.Checksum(id, castagnoli)}
	records := map[uint64]scanned{}
	var newest scanned
	for n := range 2 {
		b := make([]byte, j.half)
		if _, err := f.ReadAt(b, int64(journalBlock+n*j.half)); err != nil {
			return nil, nil, fmt.Errorf("%w: read half %d: %w", errInconsistent, n, err)
		}
		for at := 0; at+recordHeader <= len(b); {
			r, size := j.parse(b[at:])
			if size == 0 {
				at += recordAlign
				continue
			}
			records[r.seq] = r
			if r.seq > newest.seq {
				newest = r
			}
			at += size
		}
	}
	if err := j.readCheck(); err != nil {
		return nil, nil, err
	}
	done := max(j.checked, newest.done)
	var rest []raft.Log
	for seq := done + 1; seq <= newest.seq; seq++ {
		r, ok := records[seq]
		if !ok {
			return nil, nil, fmt.Errorf("%w: record %d of %d to %d is missing", errInconsistent, seq, done+1, newest.seq)
		}
		rest = append(rest, r.logs...)
	}
	// The next record begins a round, in the half that is not the newest's: what
	// is torn there, or behind the newest, is overwritten in its turn.
	j.round, j.seq = newest.round+1, max(newest.seq, done)
	return j, rest, nil
}

// readCheck takes what a sound check says.
func (j *journal) readCheck() error {
	b := make([]byte, checkSize)
	if _, err := j.f.ReadAt(b, checkAt); err != nil {
		return fmt.Errorf("%w: read its check: %w", errInconsistent, err)
	}
	if crc32.Update(j.sum, castagnoli, b[:8]) == binary.LittleEndian.Uint32(b[8:]) {
		j.checked = binary.LittleEndian.Uint64(b)
	}
	return nil
}

// parse returns the record at the beginning of b and its size, 0 if there is
// no sound one.
func (j *journal) parse(b []byte) (r scanned, size int) {
	le := binary.LittleEndian
	if le.Uint32(b) != journalMagic {
		return r, 0
	}
	length, count := uint64(le.Uint32(b[32:])), int(le.Uint32(b[36:]))
	if length > uint64(len(b)-recordHeader) {
		return r, 0
	}
	whole := b[:recordHeader+int(length)]
	if crc32.Update(j.sum, castagnoli, whole[8:]) != le.Uint32(b[4:]) {
		return r, 0
	}
	r = scanned{round: le.Uint64(b[8:]), seq: le.Uint64(b[16:]), done: le.Uint64(b[24:])}
	for rest := whole[recordHeader:]; count > 0; count-- {
		if len(rest) < recordEntry {
			return scanned{}, 0
		}
		n := uint64(le.Uint32(rest[17:]))
		if n > uint64(len(rest)-recordEntry) {
			return scanned{}, 0
		}
		end := recordEntry + int(n)
		r.logs = append(r.logs, raft.Log{Index: le.Uint64(rest), Term: le.Uint64(rest[8:]),
			Type: raft.LogType(rest[16]), Data: rest[recordEntry:end:end]})
		rest = rest[end:]
	}
	return r, align(len(whole))
}
