package api

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"holdfast/client/frames"
)

const (
	fastHeader = 4        // bytes: a frame's length, as package frames writes it
	fastBuffer = 32 << 10 // holds some 150 usual requests
	fastKept   = 256 << 10
)

// fastReader cuts a stream into frames. frames.Reader decodes each by itself
// and copies it; this one gives all the frames that are there without a copy,
// so that what is paid per read is paid once for all of them.
type fastReader struct {
	r      io.Reader
	most   uint32 // bytes of a frame
	buf    []byte
	lo, hi int // what was read and not taken
}

// next waits for a frame, header included. It is valid until the next call of
// next.
func (r *fastReader) next() ([]byte, error) {
	if r.lo == r.hi {
		r.lo, r.hi = 0, 0
		if len(r.buf) > fastKept {
			r.buf = nil // a rare large frame must not be kept for ever
		}
	}
	for {
		frame, err := r.take()
		if err != nil || frame != nil {
			return frame, err
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// take gives the next frame if it is there, else nil. Frames that next and
// take gave stay valid.
func (r *fastReader) take() ([]byte, error) {
	if r.hi-r.lo < fastHeader {
		return nil, nil
	}
	n := binary.BigEndian.Uint32(r.buf[r.lo:])
	if n > r.most {
		return nil, fmt.Errorf("%w: it says %d bytes, at most %d", frames.ErrTooLarge, n, r.most)
	}
	if uint32(r.hi-r.lo-fastHeader) < n {
		return nil, nil
	}
	end := r.lo + fastHeader + int(n)
	frame := r.buf[r.lo:end:end]
	r.lo = end
	return frame, nil
}

// fill reads more. The buffer grows with what has come, not with what a header
// says: that must not take memory.
func (r *fastReader) fill() error {
	if r.lo > 0 {
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
	}
	if r.hi == len(r.buf) {
		bigger := make([]byte, max(fastBuffer, 2*len(r.buf)))
		copy(bigger, r.buf)
		r.buf = bigger
	}
	n, err := r.r.Read(r.buf[r.hi:])
	r.hi += n
	if n > 0 {
		return nil // an error comes again
	}
	if errors.Is(err, io.EOF) && r.hi > r.lo {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decodeFrame decodes a whole frame in the general way.
func decodeFrame(frame []byte, v any) error {
	return frames.NewReader(bytes.NewReader(frame)).Next(v)
}
