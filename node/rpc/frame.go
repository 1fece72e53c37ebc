package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// MaxFrameBytes bounds a frame: eight times the largest raft entry, so that a
// forwarded batch and a whole node table fit, and a hostile length does not.
const MaxFrameBytes = 4 << 20

// ErrFrameTooLarge is a frame over MaxFrameBytes, from either side.
var ErrFrameTooLarge = errors.New("rpc: frame over 4 MiB")

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  16,
		MaxArrayElements: 1 << 17,
		MaxMapPairs:      1 << 12,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options are constants: this fails in every test or never
	}
	return v
}

// Encode gives v's CBOR as rpc puts it on the wire.
func Encode(v any) ([]byte, error) { return encMode.Marshal(v) }

// Decode reads CBOR that came from a peer.
func Decode(b []byte, v any) error { return decMode.Unmarshal(b, v) }

// WriteFrame writes one frame with a single Write, so that a small frame is a
// single packet.
func WriteFrame(w io.Writer, v any) error {
	body, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("rpc: encode %T: %w", v, err)
	}
	if len(body) > MaxFrameBytes {
		return ErrFrameTooLarge
	}
	buf := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	_, err = w.Write(append(buf, body...))
	return err
}

// ReadFrame reads one frame into v.
func ReadFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrameBytes {
		return ErrFrameTooLarge
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return noEOF(err)
	}
	if err := decMode.Unmarshal(body, v); err != nil {
		return fmt.Errorf("rpc: decode %T: %w", v, err)
	}
	return nil
}

// noEOF keeps a frame that was cut short from looking like a clean end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
