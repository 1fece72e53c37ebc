package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// The snapshot format, version 1:
//
//	magic "HFSTATE", version (1 byte), kind (1 byte: 'F' full, 'P' portable)
//	records: section (1 byte), length (unsigned varint), CBOR
//	the trailer, a record of section 255: counts per section and the SHA-256
//	    of all records before it
//	CRC-32C of everything before, 4 bytes big-endian
//
// Sections come in ascending order. The SHA-256 of a full snapshot is the
// state's hash; the CRC also covers the header and the trailer.
const (
	snapshotMagic   = "HFSTATE"
	snapshotVersion = 1
	kindFull        = 'F'
	kindPortable    = 'P'
	maxRecordBytes  = 1 << 20
)

type section byte

const (
	sectionMeta section = iota + 1
	sectionNode
	sectionRemoved
	sectionToken
	sectionTask
	sectionRequest
	sectionTrailer section = 255
)

func (s section) String() string {
	switch s {
	case sectionMeta:
		return "meta"
	case sectionNode:
		return "nodes"
	case sectionRemoved:
		return "removed nodes"
	case sectionToken:
		return "tokens"
	case sectionTask:
		return "tasks"
	case sectionRequest:
		return "requests"
	case sectionTrailer:
		return "trailer"
	}
	return fmt.Sprintf("section %d", byte(s))
}

// trailer ends a snapshot. Counts has one number per section from meta on.
type trailer struct {
	Counts [sectionRequest]uint64 `cbor:"1,keyasint"`
	Hash   [32]byte               `cbor:"2,keyasint"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameWriter writes records.
type frameWriter struct {
	w      *bufio.Writer
	crc    hash.Hash32
	sum    hash.Hash
	counts [sectionRequest]uint64
	head   []byte
	n      int64
	err    error
}

func newFrameWriter(w io.Writer, kind byte) *frameWriter {
	crc := crc32.New(castagnoli)
	f := &frameWriter{w: bufio.NewWriterSize(w, 64<<10), crc: crc, sum: sha256.New()}
	f.write(append([]byte(snapshotMagic), snapshotVersion, kind))
	return f
}

func (f *frameWriter) write(b []byte) {
	if f.err != nil {
		return
	}
	f.crc.Write(b)
	_, f.err = f.w.Write(b)
	f.n += int64(len(b))
}

func (f *frameWriter) frame(s section, record []byte) {
	f.head = binary.AppendUvarint(append(f.head[:0], byte(s)), uint64(len(record)))
	f.write(f.head)
	f.write(record)
}

func (f *frameWriter) record(s section, record []byte) {
	f.frame(s, record)
	f.sum.Write(f.head)
	f.sum.Write(record)
	f.counts[s-1]++
}

func (f *frameWriter) value(s section, v any) {
	b, err := encMode.Marshal(v)
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("encode %s: %w", s, err)
	}
	f.record(s, b)
}

// close writes the trailer and returns the hash of the records.
func (f *frameWriter) close() (sum [32]byte, err error) {
	f.sum.Sum(sum[:0])
	b, err := encMode.Marshal(trailer{f.counts, sum})
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("encode trailer: %w", err)
	}
	f.frame(sectionTrailer, b)
	f.write(f.crc.Sum(nil))
	if f.err != nil {
		return sum, f.err
	}
	return sum, f.w.Flush()
}

// frameReader reads records and checks what frameWriter promised.
type frameReader struct {
	r      *bufio.Reader
	crc    hash.Hash32
	sum    hash.Hash
	kind   byte
	last   section
	counts [sectionRequest]uint64
	buf    []byte
	first  []byte // the last record's section and length
}

// errNotSnapshot is wrapped by what newFrameReader refuses.
var errNotSnapshot = errors.New("not a snapshot of this program")

func newFrameReader(r io.Reader) (*frameReader, error) {
	f := &frameReader{r: bufio.NewReaderSize(r, 64<<10), crc: crc32.New(castagnoli), sum: sha256.New()}
	head := make([]byte, len(snapshotMagic)+2)
	if _, err := io.ReadFull(f.r, head); err != nil {
		return nil, fmt.Errorf("%w: header: %w", errNotSnapshot, unexpected(err))
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: it begins with %q", errNotSnapshot, head[:len(snapshotMagic)])
	}
	if v := head[len(snapshotMagic)]; v != snapshotVersion {
		return nil, &newerError{fmt.Sprintf("snapshot format %d", v)}
	}
	f.crc.Write(head)
	f.kind = head[len(snapshotMagic)+1]
	if f.kind != kindFull && f.kind != kindPortable {
		return nil, &newerError{fmt.Sprintf("snapshot kind %q", f.kind)}
	}
	return f, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next returns the next record, valid until the call after; io.EOF once the
// trailer and the checksum were there and right.
func (f *frameReader) next() (section, []byte, error) {
	s, head, err := f.head()
	if err != nil {
		return 0, nil, f.errorAt(err)
	}
	f.crc.Write(head)
	f.crc.Write(f.buf)
	if s == sectionTrailer {
		return 0, nil, f.end()
	}
	f.sum.Write(head)
	f.sum.Write(f.buf)
	f.counts[s-1]++
	return s, f.buf, nil
}

// head reads a record's head, and its body into f.buf.
func (f *frameReader) head() (section, []byte, error) {
	b, err := f.r.ReadByte()
	if err != nil {
		return 0, nil, unexpected(err)
	}
	s := section(b)
	if s < sectionMeta || s > sectionRequest && s != sectionTrailer {
		return 0, nil, &newerError{"snapshot " + s.String()}
	}
	if s < f.last {
		return 0, nil, fmt.Errorf("section %s after %s", s, f.last)
	}
	f.last = s
	n, err := binary.ReadUvarint(f.r)
	if err != nil {
		return 0, nil, unexpected(err)
	}
	if n > maxRecordBytes {
		return 0, nil, fmt.Errorf("a record of %d bytes is over the limit of %d", n, maxRecordBytes)
	}
	if uint64(cap(f.buf)) < n {
		f.buf = make([]byte, n)
	}
	f.buf = f.buf[:n]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return 0, nil, unexpected(err)
	}
	f.first = binary.AppendUvarint(append(f.first[:0], b), n)
	return s, f.first, nil
}

// end checks the trailer, which is in f.buf, and what follows it.
func (f *frameReader) end() error {
	var t trailer
	if err := decodeStrict(f.buf, &t); err != nil {
		return f.errorAt(err)
	}
	var crc [4]byte
	if _, err := io.ReadFull(f.r, crc[:]); err != nil {
		return fmt.Errorf("snapshot checksum: %w", unexpected(err))
	}
	if got := binary.BigEndian.Uint32(crc[:]); got != f.crc.Sum32() {
		return fmt.Errorf("snapshot is corrupt: checksum %08x, want %08x", f.crc.Sum32(), got)
	}
	if t.Counts != f.counts {
		return fmt.Errorf("snapshot is incomplete: %v records per section, want %v", f.counts, t.Counts)
	}
	if sum := f.sum.Sum(nil); string(sum) != string(t.Hash[:]) {
		return fmt.Errorf("snapshot is corrupt: state hash %x, want %x", sum, t.Hash)
	}
	if _, err := f.r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("snapshot goes on after its checksum")
	}
	return io.EOF
}

// errorAt names the place of an error: the section and the record in it.
func (f *frameReader) errorAt(err error) error {
	n := uint64(1)
	if f.last >= sectionMeta && f.last <= sectionRequest {
		n = max(f.counts[f.last-1], 1)
	}
	return fmt.Errorf("snapshot section %s, record %d: %w", f.last, n, err)
}
