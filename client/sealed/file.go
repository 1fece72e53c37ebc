package sealed

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Writer seals what is written to it. Close writes the last chunk: without it
// the file is refused. One goroutine uses it.
type Writer struct {
	w      io.Writer
	aead   cipher.AEAD
	number uint64 // of the chunk in buf
	buf    []byte
	out    []byte
	err    error // sticky
}

// NewWriter starts a sealed file on w.
func NewWriter(w io.Writer, s Secret) (*Writer, error) {
	h := &Header{Kind: s.kind}
	if s.kind == Passphrase {
		h.Time, h.Memory, h.Threads = argonTime, argonMemory, argonThreads
	}
	_, _ = rand.Read(h.salt[:]) // never fails
	return newWriter(w, s, h)
}

func newWriter(w io.Writer, s Secret, h *Header) (*Writer, error) {
	aead, err := h.aead(s)
	if err != nil {
		return nil, err
	}
	head := h.encode()
	head = aead.Seal(head, nonce(0, false), nil, head)
	if _, err := w.Write(head); err != nil {
		return nil, fmt.Errorf("write the sealed file's header: %w", err)
	}
	return &Writer{w: w, aead: aead, number: 1, buf: make([]byte, 0, ChunkBytes), out: make([]byte, 0, ChunkBytes+tagBytes)}, nil
}

// Write seals p. A full chunk is kept back until more comes: it may be the
// last.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n := 0
	for len(p) > 0 {
		if len(w.buf) == ChunkBytes {
			if w.err = w.flush(false); w.err != nil {
				return n, w.err
			}
		}
		k := min(len(p), ChunkBytes-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		n, p = n+k, p[k:]
	}
	return n, nil
}

// Close seals the last chunk. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	err := w.flush(true)
	w.err = errors.New("write to a closed sealed file")
	return err
}

func (w *Writer) flush(last bool) error {
	w.out = w.aead.Seal(w.out[:0], nonce(w.number, last), w.buf, nil)
	w.number++
	w.buf = w.buf[:0]
	if _, err := w.w.Write(w.out); err != nil {
		return fmt.Errorf("write the sealed file: %w", err)
	}
	return nil
}

// Reader opens a sealed file. What Read has given is authentic, but only
// io.EOF proves that it is all: act on nothing before. One goroutine uses it.
type Reader struct {
	Header Header
	r      io.Reader
	aead   cipher.AEAD
	number uint64
	next   []byte // the one byte that was read beyond the current chunk
	text   []byte // opened and not yet given
	in     []byte
	err    error // sticky
}

// NewReader reads the header and checks the secret.
func NewReader(r io.Reader, s Secret) (*Reader, error) {
	head := make([]byte, HeaderBytes)
	if _, err := io.ReadFull(r, head); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: it ends within the header", ErrFormat)
		}
		return nil, fmt.Errorf("read the sealed file's header: %w", err)
	}
	h, err := ParseHeader(head)
	if err != nil {
		return nil, err
	}
	aead, err := h.aead(s)
	if err != nil {
		return nil, err
	}
	if _, err := aead.Open(nil, nonce(0, false), head[plainBytes:], head[:plainBytes]); err != nil {
		return nil, ErrSecret
	}
	return &Reader{Header: *h, r: r, aead: aead, number: 1, in: make([]byte, ChunkBytes+tagBytes+1)}, nil
}

// Read gives opened bytes.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.text) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.text, r.err = r.chunk()
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

// chunk opens the next chunk; io.EOF comes with the last. It reads one byte
// further, because the last chunk is known by what does not follow it.
func (r *Reader) chunk() ([]byte, error) {
	have := copy(r.in, r.next)
	n, err := io.ReadFull(r.r, r.in[have:])
	n += have
	last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !last {
		return nil, fmt.Errorf("read the sealed file: %w", err)
	}
	box := r.in[:min(n, ChunkBytes+tagBytes)] // a full read is one byte more
	r.next = bytes.Clone(r.in[len(box):n])
	if len(box) < tagBytes {
		return nil, fmt.Errorf("%w in chunk %d", ErrTruncated, r.number)
	}
	text, err := r.aead.Open(nil, nonce(r.number, last), box, nil)
	if err != nil {
		if last {
			// A whole chunk that is not marked as the last: the rest is gone.
			if _, err := r.aead.Open(nil, nonce(r.number, false), box, nil); err == nil || len(box) < ChunkBytes+tagBytes {
				return nil, fmt.Errorf("%w or damaged in chunk %d", ErrTruncated, r.number)
			}
		}
		return nil, fmt.Errorf("%w in chunk %d", ErrDamaged, r.number)
	}
	r.number++
	if last {
		return text, io.EOF
	}
	return text, nil
}
