package storage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// SealWriter encrypts what is written to it, chunk by chunk. Not safe for
// concurrent use. After an error every later call fails with it: a chunk that
// may be half written must not be sealed again under its number.
//
// A stream is written by one SealWriter from start to end; it cannot be
// appended to later, since a torn last chunk would use its nonce twice. Start a
// new one.
type SealWriter struct {
	w       io.Writer
	s       sealer
	buf     []byte // head, then plaintext; room for the tag
	n       int    // plaintext bytes in buf
	chunk   uint64
	flushed int64
	err     error
}

var errSealClosed = errors.New("sealed stream: write after Close")

// NewSealWriter writes the header of a sealed stream to w. key holds 32 bytes;
// label separates uses of one key, the reader must give the same. Every chunk
// is one Write to w.
func NewSealWriter(w io.Writer, key []byte, label string) (*SealWriter, error) {
	return newSealWriter(w, key, label, rand.Reader)
}

func newSealWriter(w io.Writer, key []byte, label string, random io.Reader) (*SealWriter, error) {
	head := make([]byte, streamHeader)
	copy(head, streamMagic)
	if _, err := io.ReadFull(random, head[len(streamMagic):]); err != nil {
		return nil, fmt.Errorf("sealed stream: draw a salt: %w", err)
	}
	s, err := newSealer(key, head[len(streamMagic):], label)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &SealWriter{w: w, s: s, buf: make([]byte, chunkHead+ChunkSize+tagSize)}, nil
}

// Write buffers p and writes every chunk that it fills.
func (w *SealWriter) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		if w.err != nil {
			return done, w.err
		}
		k := copy(w.buf[chunkHead+w.n:chunkHead+ChunkSize], p)
		w.n, p, done = w.n+k, p[k:], done+k
		if w.n == ChunkSize {
			if err := w.seal(false); err != nil {
				return done, err
			}
		}
	}
	return done, w.err
}

// Flush writes what is buffered as a short chunk, so that a reader can have it
// (20 bytes of overhead each: flush by time or size, not by line). It does not
// sync.
func (w *SealWriter) Flush() error {
	if w.err != nil || w.n == 0 {
		return w.err
	}
	return w.seal(false)
}

// Flushed returns how many plaintext bytes readers can see.
func (w *SealWriter) Flushed() int64 { return w.flushed }

// Close writes the last chunk, without which a reader reports ErrTruncated. It
// neither syncs nor closes the writer below. A second Close does nothing.
func (w *SealWriter) Close() error {
	if errors.Is(w.err, errSealClosed) {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	if err := w.seal(true); err != nil {
		return err
	}
	w.err, w.buf = errSealClosed, nil
	return nil
}

func (w *SealWriter) seal(last bool) error {
	head := uint32(w.n)
	if last {
		head |= lastChunk
	}
	binary.BigEndian.PutUint32(w.buf, head)
	nonce := w.s.nonce(w.chunk, last)
	ad := chunkAD(w.buf, w.flushed)
	out := w.s.aead.Seal(w.buf[:chunkHead], nonce[:], w.buf[chunkHead:chunkHead+w.n], ad[:])
	if _, err := w.w.Write(out); err != nil {
		w.err = err
		return err
	}
	w.chunk++
	w.flushed += int64(w.n)
	w.n = 0
	return nil
}

func chunkAD(head []byte, offset int64) (ad [chunkHead + 8]byte) {
	copy(ad[:], head[:chunkHead])
	binary.BigEndian.PutUint64(ad[chunkHead:], uint64(offset))
	return ad
}
