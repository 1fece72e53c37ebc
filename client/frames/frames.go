// Package frames is the wire of the pipelined QUIC RPC between the SDK and a
// node: the one definition that both halves use.
//
// A client opens one connection with ALPN [ALPN] and on it one stream. Each
// message is a frame: its length as a big-endian uint32, then that many bytes
// of CBOR, a map with integer keys. The client sends a [Hello], the node
// answers with a [Welcome]; if its code is not OK the node closes. Then the
// client sends [Request]s without waiting, at most Welcome.InFlight
// unanswered, and the node answers each with one [Answer], in any order and
// as many per packet as are ready. Unknown keys are ignored, so that a later
// release can add fields; a new meaning needs a new ALPN.
//
// The functions are pure; a [Reader] belongs to one goroutine.
package frames

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

const (
	// ALPN names the protocol; it is the transport's class "client".
	ALPN = "holdfast-client/1"
	// Version is that of the messages.
	Version = 1
	// MaxFrame bounds a message: 1,000 usual specs or 60 of the largest.
	MaxFrame = 4 << 20
	// MaxSpecs bounds the specs of one request, as in a batch over HTTP.
	MaxSpecs = 1000
	// MaxKey bounds a request ID, as the Idempotency-Key's bound.
	MaxKey = 128

	headerBytes = 4
)

// Method says what a request asks for.
type Method uint8

// Submit submits specs, all or none.
const Submit Method = 1

// Code is a request's outcome. The numbers are part of the wire.
type Code uint8

// The outcomes; all but OK stand for the problem code of the same name.
const (
	OK Code = iota
	Invalid
	NotFound
	Conflict
	Unauthenticated
	Forbidden
	QueueFull
	RateLimited
	Overloaded
	Unavailable
	TooLarge
	Internal
	TokenExpired
)

// codes gives each Code its problem code and HTTP status.
var codes = [...]struct {
	name   string
	status int
}{
	OK: {"", 200}, Invalid: {"invalid", 422}, NotFound: {"not_found", 404}, Conflict: {"conflict", 409},
	Unauthenticated: {"unauthenticated", 401}, Forbidden: {"forbidden", 403}, QueueFull: {"queue_full", 429},
	RateLimited: {"rate_limited", 429}, Overloaded: {"overloaded", 429}, Unavailable: {"unavailable", 503},
	TooLarge: {"too_large", 413}, Internal: {"internal", 500}, TokenExpired: {"token_expired", 401},
}

// Problem returns the problem code and HTTP status that c stands for; an
// unknown code counts as internal.
func (c Code) Problem() (code string, status int) {
	if int(c) >= len(codes) {
		c = Internal
	}
	return codes[c].name, codes[c].status
}

// CodeOf returns the Code of a problem code; Internal if it has none.
func CodeOf(problem string) Code {
	for c, d := range codes {
		if d.name == problem && problem != "" {
			return Code(c)
		}
	}
	return Internal
}

// Hello is a client's first message.
type Hello struct {
	Version   uint32 `cbor:"1,keyasint"`
	Token     string `cbor:"2,keyasint"` // the whole API token
	UserAgent string `cbor:"3,keyasint,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Code     Code   `cbor:"1,keyasint"`
	Detail   string `cbor:"2,keyasint,omitempty"`
	InFlight uint32 `cbor:"3,keyasint,omitempty"` // requests that may be unanswered
	Index    uint64 `cbor:"4,keyasint,omitempty"` // applied at this node
}

// Request asks for something under the token of the Hello.
type Request struct {
	Number uint64            `cbor:"1,keyasint"`           // names the answer; unique on this stream
	Method Method            `cbor:"2,keyasint"`           //
	Specs  []cbor.RawMessage `cbor:"3,keyasint,omitempty"` // encoded task specs
	Key    string            `cbor:"4,keyasint,omitempty"` // request ID: sent again with it, it takes effect once
}

// Answer ends a request.
type Answer struct {
	Number       uint64 `cbor:"1,keyasint"`
	Code         Code   `cbor:"2,keyasint,omitempty"`
	First        uint64 `cbor:"3,keyasint,omitempty"` // number of the first task; the others follow it
	Count        uint32 `cbor:"4,keyasint,omitempty"` // of tasks
	Index        uint64 `cbor:"5,keyasint,omitempty"` // log index of the submission
	Detail       string `cbor:"6,keyasint,omitempty"` // why it was refused
	RetryAfterMS uint32 `cbor:"7,keyasint,omitempty"`
}

// Errors of this package.
var (
	ErrTooLarge = errors.New("frame is too large")
	ErrMessage  = errors.New("bad message")
)

var encMode = must(cbor.CoreDetEncOptions().EncMode())

var decMode = must(cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	IndefLength:      cbor.IndefLengthForbidden,
	TagsMd:           cbor.TagsForbidden,
	MaxNestedLevels:  16,
	MaxArrayElements: 1024,
	MaxMapPairs:      1024,
	UTF8:             cbor.UTF8RejectInvalid,
}.DecMode())

// must is for options that are constants of this package: its tests would
// fail at once.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Append adds the frame of message to dst.
func Append(dst []byte, message any) ([]byte, error) {
	b, err := encMode.Marshal(message)
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if len(b) > MaxFrame {
		return dst, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxFrame)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...), nil
}

// Reader reads frames from one stream.
type Reader struct {
	r    *bufio.Reader
	head [headerBytes]byte
	buf  []byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Next reads the next message into the struct that message points to.
// io.EOF is a clean end. Raw parts of the message are copies.
func (r *Reader) Next(message any) error {
	b, err := r.frame()
	if err != nil {
		return err
	}
	return decode(b, message)
}

func decode(b []byte, message any) error {
	if err := decMode.Unmarshal(b, message); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// frame reads the next message's bytes, valid until the next call.
func (r *Reader) frame() ([]byte, error) {
	h := r.head[:]
	if _, err := io.ReadFull(r.r, h); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read a frame's length: %w", err)
	}
	n := binary.BigEndian.Uint32(h)
	if n > MaxFrame {
		return nil, fmt.Errorf("%w: it says %d bytes, at most %d", ErrTooLarge, n, MaxFrame)
	}
	// Grown as bytes come, not as a length says: a hostile header must not
	// take memory.
	b := r.buf[:0]
	for len(b) < int(n) {
		step := min(int(n)-len(b), 64<<10)
		at := len(b)
		b = slices.Grow(b, step)[:at+step]
		if _, err := io.ReadFull(r.r, b[at:]); err != nil {
			return nil, fmt.Errorf("read a frame of %d bytes: %w", n, noEOF(err))
		}
	}
	if cap(b) <= 256<<10 {
		r.buf = b[:0] // a rare large frame must not be kept for ever
	}
	return b, nil
}

// Buffered tells how many bytes can be read without waiting.
func (r *Reader) Buffered() int { return r.r.Buffered() }

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
