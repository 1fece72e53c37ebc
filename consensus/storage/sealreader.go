package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// StreamError says where in a sealed stream reading stopped. It wraps
// ErrDamaged or ErrTruncated.
type StreamError struct {
	Offset int64 // byte offset in the sealed form, of the chunk
	Err    error
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("sealed stream, offset %d: %v", e.Offset, e.Err)
}
func (e *StreamError) Unwrap() error { return e.Err }

// readHeader parses the stream's header for key and label.
func readHeader(head, key []byte, label string) (sealer, error) {
	if string(head[:len(streamMagic)]) != streamMagic {
		return sealer{}, &StreamError{0, fmt.Errorf("%w: not a sealed stream of a known version", ErrDamaged)}
	}
	return newSealer(key, head[len(streamMagic):], label)
}

// parseHead splits a chunk's head.
func parseHead(b []byte) (n int, last bool, err error) {
	h := binary.BigEndian.Uint32(b)
	last = h&lastChunk != 0
	h &^= lastChunk
	if h > ChunkSize || (h == 0 && !last) {
		return 0, false, fmt.Errorf("%w: bad chunk length", ErrDamaged)
	}
	return int(h), last, nil
}

// openChunk decrypts in place.
func (s sealer) openChunk(chunk uint64, last bool, head, sealed []byte, offset int64) ([]byte, error) {
	nonce := s.nonce(chunk, last)
	ad := chunkAD(head, offset)
	p, err := s.aead.Open(sealed[:0], nonce[:], sealed, ad[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return p, nil
}

// SealReader decrypts a finished stream from its start. It returns no byte
// that has not been authenticated, and io.EOF only after the last chunk;
// whoever acts on the data as a whole must wait for that. Not safe for
// concurrent use.
type SealReader struct {
	r      io.Reader
	s      sealer
	buf    []byte
	plain  []byte // rest of the current chunk
	chunk  uint64
	offset int64 // plaintext offset of the next chunk
	pos    int64 // sealed offset of the next chunk
	err    error
}

// NewSealReader reads the header from r. key and label as for NewSealWriter.
func NewSealReader(r io.Reader, key []byte, label string) (*SealReader, error) {
	head := make([]byte, streamHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, readErr(0, err)
	}
	s, err := readHeader(head, key, label)
	if err != nil {
		return nil, err
	}
	return &SealReader{r: r, s: s, pos: int64(streamHeader), buf: make([]byte, chunkHead+ChunkSize+tagSize)}, nil
}

func readErr(pos int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrTruncated
	}
	return &StreamError{pos, err}
}

func (r *SealReader) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		r.next()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// next reads one chunk into plain, or sets err (io.EOF with the last one).
func (r *SealReader) next() {
	if _, err := io.ReadFull(r.r, r.buf[:chunkHead]); err != nil {
		r.err = readErr(r.pos, err)
		return
	}
	n, last, err := parseHead(r.buf)
	if err != nil {
		r.err = &StreamError{r.pos, err}
		return
	}
	body := r.buf[chunkHead : chunkHead+n+tagSize]
	if _, err := io.ReadFull(r.r, body); err != nil {
		r.err = readErr(r.pos, err)
		return
	}
	plain, err := r.s.openChunk(r.chunk, last, r.buf, body, r.offset)
	if err != nil {
		r.err = &StreamError{r.pos, err}
		return
	}
	r.pos += int64(chunkHead + n + tagSize)
	r.offset += int64(n)
	r.chunk++
	r.plain = plain
	if last {
		r.err = io.EOF
		var b [1]byte
		if k, _ := io.ReadFull(r.r, b[:]); k != 0 {
			r.plain, r.err = nil, &StreamError{r.pos, fmt.Errorf("%w: data behind the last chunk", ErrDamaged)}
		}
	}
}

// SealFollower reads a stream at any plaintext offset, also while a SealWriter
// is still appending to the same file. Not safe for concurrent use; open one
// per reader.
type SealFollower struct {
	r     io.ReaderAt
	key   []byte
	label string
	s     sealer
	ready bool

	marks []chunkPos // sparse, ascending, marks[0] is the first chunk
	buf   []byte
	held  chunkPos // the chunk decrypted in plain
	plain []byte
	last  bool // plain is the last chunk
}

type chunkPos struct {
	chunk  uint64
	offset int64 // plaintext
	pos    int64 // sealed
}

// markEvery: one remembered position per this many plaintext bytes bounds both
// memory (24 bytes per 64 KiB) and the heads walked by a seek into short chunks.
const markEvery = ChunkSize

// NewSealFollower does not read yet: the file may still be empty.
func NewSealFollower(r io.ReaderAt, key []byte, label string) *SealFollower {
	return &SealFollower{
		r: r, key: key, label: label, buf: make([]byte, chunkHead+ChunkSize+tagSize),
		marks: []chunkPos{{pos: int64(streamHeader)}}, held: chunkPos{offset: -1},
	}
}

// ReadAt fills p with plaintext from off, as far as one chunk goes: n > 0 with a
// nil error, or n = 0 with io.EOF at the end of a finished stream, ErrNotYet
// when nothing more has been flushed (a chunk that is half written counts as
// not flushed), or a *StreamError. It may return less than len(p) without an
// error, unlike io.ReaderAt.
func (f *SealFollower) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("sealed stream: negative offset")
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !f.ready {
		head := make([]byte, streamHeader)
		if err := f.full(head, 0); err != nil {
			return 0, err
		}
		s, err := readHeader(head, f.key, f.label)
		if err != nil {
			return 0, err
		}
		f.s, f.ready = s, true
	}
	if err := f.seek(off); err != nil {
		return 0, err
	}
	rest := f.plain[min(off-f.held.offset, int64(len(f.plain))):]
	if len(rest) == 0 {
		return 0, io.EOF // only the last chunk may end before off
	}
	return copy(p, rest), nil
}

// full reads b at pos; what is not all there yet is ErrNotYet.
func (f *SealFollower) full(b []byte, pos int64) error {
	n, err := f.r.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return ErrNotYet
	}
	return &StreamError{pos, err}
}

// seek makes plain the chunk that holds off, or the last one of the stream.
func (f *SealFollower) seek(off int64) error {
	if h := f.held; h.offset >= 0 && off >= h.offset && (f.last || off < h.offset+int64(len(f.plain))) {
		return nil
	}
	i := sort.Search(len(f.marks), func(i int) bool { return f.marks[i].offset > off }) - 1
	c := f.marks[max(i, 0)]
	if h := f.held; h.offset >= c.offset && h.offset <= off {
		c = h
	}
	for {
		head := f.buf[:chunkHead]
		if err := f.full(head, c.pos); err != nil {
			return err
		}
		n, last, err := parseHead(head)
		if err != nil {
			return &StreamError{c.pos, err}
		}
		if last || off < c.offset+int64(n) {
			return f.load(c, n, last)
		}
		c = chunkPos{c.chunk + 1, c.offset + int64(n), c.pos + int64(chunkHead+n+tagSize)}
		if m := f.marks[len(f.marks)-1]; c.offset >= m.offset+markEvery {
			f.marks = append(f.marks, c)
		}
	}
}

// load decrypts the chunk at c. Heads that were walked over were not
// authenticated; this chunk's number and offset are, and they depend on them.
func (f *SealFollower) load(c chunkPos, n int, last bool) error {
	f.held.offset = -1 // buf is about to change
	body := f.buf[chunkHead : chunkHead+n+tagSize]
	if err := f.full(body, c.pos+chunkHead); err != nil {
		return err
	}
	plain, err := f.s.openChunk(c.chunk, last, f.buf, body, c.offset)
	if err != nil {
		f.marks = f.marks[:1] // a lying head may have led here
		return &StreamError{c.pos, err}
	}
	f.held, f.plain, f.last = c, plain, last
	return nil
}
