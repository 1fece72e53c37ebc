package protocol

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

const (
	// MaxFrameBytes bounds what one frame makes the receiver hold. Senders
	// stop filling an Assign at AssignBytes, and one spec is at most 64 KiB.
	MaxFrameBytes = 4 << 20
	// AssignBytes is where a sender starts the next Assign: large enough to
	// carry thousands of usual specs, small enough to keep a renewal that is
	// queued behind it from waiting.
	AssignBytes = 256 << 10
	// MaxReports is how many ends one Report may carry. 256 reports with full
	// tails (4 KiB each) make 1.1 MiB, a raft entry that replicates well
	// within a heartbeat.
	MaxReports = 256
	// MaxAttempts bounds Hello.Attempts, and with it what a worker may hold.
	MaxAttempts = 16384

	headerBytes = 5
)

// ErrFrame is wrapped by every error about a malformed frame.
var ErrFrame = errors.New("malformed frame")

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxArrayElements:  MaxAttempts,
		MaxMapPairs:       64,
		MaxNestedLevels:   16,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorNone, // unknown keys are for later releases
	}.DecMode())
)

// must is for options that are constants of this file: a test fails at once.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// kindOf pairs each message with its kind.
func kindOf(message any) (Kind, bool) {
	switch message.(type) {
	case *Hello:
		return KindHello, true
	case *Welcome:
		return KindWelcome, true
	case *Refuse:
		return KindRefuse, true
	case *Renew:
		return KindRenew, true
	case *Renewed:
		return KindRenewed, true
	case *Assign:
		return KindAssign, true
	case *Revoke:
		return KindRevoke, true
	case *Report:
		return KindReport, true
	case *Reported:
		return KindReported, true
	}
	return 0, false
}

func newMessage(kind Kind) (any, bool) {
	switch kind {
	case KindHello:
		return new(Hello), true
	case KindWelcome:
		return new(Welcome), true
	case KindRefuse:
		return new(Refuse), true
	case KindRenew:
		return new(Renew), true
	case KindRenewed:
		return new(Renewed), true
	case KindAssign:
		return new(Assign), true
	case KindRevoke:
		return new(Revoke), true
	case KindReport:
		return new(Report), true
	case KindReported:
		return new(Reported), true
	}
	return nil, false
}

// Append encodes message (a pointer to one of this package's types) as a
// frame and appends it to dst.
func Append(dst []byte, message any) ([]byte, error) {
	kind, ok := kindOf(message)
	if !ok {
		return dst, fmt.Errorf("encode %T: not a message of the worker protocol", message)
	}
	body, err := encMode.Marshal(message)
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", message, err)
	}
	if len(body)+1 > MaxFrameBytes {
		return dst, fmt.Errorf("encode %T: %d bytes, the limit is %d", message, len(body)+1, MaxFrameBytes)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)+1))
	dst = append(dst, byte(kind))
	return append(dst, body...), nil
}

// Reader reads frames.
type Reader struct{ in *bufio.Reader }

// NewReader reads frames from r, with a buffer of its own.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReaderSize(r, 16<<10)} }

// Next returns the next message: a pointer to one of this package's types. At
// a clean end between two frames the error is io.EOF.
func (r *Reader) Next() (any, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r.in, header[:1]); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r.in, header[1:]); err != nil {
		return nil, fmt.Errorf("%w: header cut short: %w", ErrFrame, noEOF(err))
	}
	size := binary.BigEndian.Uint32(header[:4])
	if size < 1 || size > MaxFrameBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrFrame, size, MaxFrameBytes)
	}
	message, ok := newMessage(Kind(header[4]))
	if !ok {
		return nil, fmt.Errorf("%w: unknown kind %d", ErrFrame, header[4])
	}
	// A length is cheap to claim: the buffer grows with what really arrives.
	body, err := readBody(r.in, int(size-1))
	if err != nil {
		return nil, err
	}
	if err := decMode.Unmarshal(body, message); err != nil {
		return nil, fmt.Errorf("%w: %T: %w", ErrFrame, message, err)
	}
	return message, nil
}

func readBody(in io.Reader, size int) ([]byte, error) {
	const step = 64 << 10
	body := make([]byte, 0, min(size, step))
	for len(body) < size {
		n := min(size-len(body), step)
		body = append(body, make([]byte, n)...)
		if _, err := io.ReadFull(in, body[len(body)-n:]); err != nil {
			return nil, fmt.Errorf("%w: body cut short: %w", ErrFrame, noEOF(err))
		}
	}
	return body, nil
}

// noEOF keeps io.EOF for the clean end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
