package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// encMode writes and decMode reads what is too rare to be worth code of its
// own. Built once: building one costs more than many uses of it.
var encMode, decMode = newModes()

func newModes() (cbor.EncMode, cbor.DecMode) {
	enc := cbor.CoreDetEncOptions()
	enc.NilContainers = cbor.NilContainerAsEmpty
	em, encErr := enc.EncMode()
	dm, decErr := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  maxDepth,
		MaxArrayElements: MaxTasksPerSubmit,
		MaxMapPairs:      64,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		// A field from the future stops the node (see StopError): skipping it
		// could make this replica differ from the newer ones.
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err := errors.Join(encErr, decErr); err != nil {
		panic("fsm: constant CBOR options: " + err.Error())
	}
	return em, dm
}

// Marshal encodes a value (a Spec, say) the way the state machine's formats
// do: core deterministic CBOR with integer keys.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes what Marshal encoded, within the bounds of commands. It
// refuses unknown fields, duplicate keys, tags and indefinite lengths.
func Unmarshal(data []byte, v any) error { return decMode.Unmarshal(data, v) }

// decodeStrict decodes what only the canonical encoding of a value may stand
// for. The library alone would take null for a zero value, and a byte string
// of any length for an array of bytes.
func decodeStrict(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return err
	}
	canonical, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode again: %w", err)
	}
	if !bytes.Equal(canonical, b) {
		return &decodeError{problem: "the input is not in the canonical encoding"}
	}
	return nil
}

// NewCommand encodes a command of the given type in its current version. Body
// is the struct that belongs to the type, nil for CmdTick. A zero request ID
// asks for no protection against being applied twice.
func NewCommand(t CommandType, id RequestID, principal string, body any) ([]byte, error) {
	info, ok := commandInfo(t)
	if !ok {
		return nil, fmt.Errorf("encode command: unknown type %d", t)
	}
	c := Command{Version: info.version, Type: t, RequestID: id, Principal: principal}
	if body != nil {
		raw, err := encMode.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", t, err)
		}
		c.Body = raw
	}
	return EncodeCommand(c)
}

// EncodeCommand encodes a command whose body is already encoded.
func EncodeCommand(c Command) ([]byte, error) {
	b, err := encMode.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.Type, err)
	}
	return b, nil
}

// batchVersion is the first byte of a batch.
const batchVersion = 1

// batchHeader is a version byte and the time, 8 bytes big-endian Unix ns.
const batchHeader = 9

// EncodeBatch makes one raft entry of commands. The format is a version byte,
// the leader's time (8 bytes, big-endian Unix ns) and then each command after
// its length (unsigned varint).
func EncodeBatch(unixNano int64, cmds [][]byte) []byte {
	size := batchHeader
	for _, c := range cmds {
		size += len(c) + 4
	}
	b := make([]byte, batchHeader, size)
	b[0] = batchVersion
	binary.BigEndian.PutUint64(b[1:], uint64(unixNano))
	for _, c := range cmds {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b
}

// splitBatch appends the batch's commands, which alias it, to cmds.
func splitBatch(b []byte, cmds [][]byte) (unixNano int64, _ [][]byte, err error) {
	if len(b) > MaxBatchBytes {
		return 0, nil, fmt.Errorf("batch of %d bytes is over the limit of %d", len(b), MaxBatchBytes)
	}
	if len(b) < batchHeader {
		return 0, nil, fmt.Errorf("batch of %d bytes has no header", len(b))
	}
	if b[0] != batchVersion {
		return 0, nil, fmt.Errorf("batch format %d is unknown to this release, which knows %d", b[0], batchVersion)
	}
	unixNano = int64(binary.BigEndian.Uint64(b[1:]))
	if unixNano < 0 || unixNano > maxUnixNano {
		return 0, nil, fmt.Errorf("batch time %d is out of range", unixNano)
	}
	for rest := b[batchHeader:]; len(rest) > 0; {
		n, k := binary.Uvarint(rest)
		if k <= 0 || n > uint64(len(rest)-k) {
			return 0, nil, fmt.Errorf("batch: command %d ends beyond the batch", len(cmds))
		}
		cmds = append(cmds, rest[k:k+int(n)])
		rest = rest[k+int(n):]
	}
	return unixNano, cmds, nil
}

// isUnknownField reports whether a decoding error means that the input comes
// from a newer release.
func isUnknownField(err error) bool {
	if e, ok := errors.AsType[*decodeError](err); ok {
		return e.unknown
	}
	_, ok := errors.AsType[*cbor.UnknownFieldError](err)
	return ok
}
