package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"holdfast/fsm"
)

// A request frame is [length u32][number u64][count u32] and count times
// [uvarint length][command]; an answer frame is [length u32][number u64]
// [outcome u8][index u64] and a CBOR array of results. Length counts what
// follows it. Hand-made because this is every write's path on a follower.
const (
	maxFrameBytes = 1 << 20
	reqHead       = 4 + 8 + 4
	ansHead       = 4 + 8 + 1 + 8
)

type outcome uint8

const (
	committed outcome = iota
	notLeader         // definite: try the next leader
	overloaded
	unknown
	unavailable // definite
	tooLarge    // definite, and no leader will say otherwise
)

var errBadFrame = errors.New("forward: malformed frame")

// appendRequest appends a whole frame to b.
func appendRequest(b []byte, number uint64, cmds [][]byte) []byte {
	start := len(b)
	b = append(b, make([]byte, reqHead)...)
	for _, c := range cmds {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	binary.BigEndian.PutUint64(b[start+4:], number)
	binary.BigEndian.PutUint32(b[start+12:], uint32(len(cmds)))
	return b
}

func readRequest(r io.Reader) (number uint64, cmds [][]byte, err error) {
	body, err := readBody(r)
	if err != nil {
		return 0, nil, err
	}
	if len(body) < reqHead-4 {
		return 0, nil, errBadFrame
	}
	number = binary.BigEndian.Uint64(body)
	count := binary.BigEndian.Uint32(body[8:])
	body = body[12:]
	if uint64(count) > uint64(len(body)) { // a command takes a byte at least
		return 0, nil, errBadFrame
	}
	cmds = make([][]byte, 0, count)
	for range count {
		n, k := binary.Uvarint(body)
		if k <= 0 || n > uint64(len(body)-k) {
			return 0, nil, errBadFrame
		}
		end := k + int(n)
		cmds = append(cmds, body[k:end:end])
		body = body[end:]
	}
	if len(body) != 0 {
		return 0, nil, errBadFrame
	}
	return number, cmds, nil
}

type answer struct {
	number  uint64
	outcome outcome
	index   uint64
	results []fsm.Result
}

func appendAnswer(b []byte, a answer) ([]byte, error) {
	start := len(b)
	b = append(b, make([]byte, ansHead)...)
	if a.outcome == committed {
		res, err := cbor.Marshal(a.results)
		if err != nil {
			return nil, fmt.Errorf("forward: encode results: %w", err)
		}
		b = append(b, res...)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	binary.BigEndian.PutUint64(b[start+4:], a.number)
	b[start+12] = byte(a.outcome)
	binary.BigEndian.PutUint64(b[start+13:], a.index)
	return b, nil
}

func readAnswer(r io.Reader) (answer, error) {
	body, err := readBody(r)
	if err != nil {
		return answer{}, err
	}
	if len(body) < ansHead-4 {
		return answer{}, errBadFrame
	}
	a := answer{
		number:  binary.BigEndian.Uint64(body),
		outcome: outcome(body[8]),
		index:   binary.BigEndian.Uint64(body[9:]),
	}
	if a.outcome == committed {
		if err := cbor.Unmarshal(body[17:], &a.results); err != nil {
			return answer{}, fmt.Errorf("%w: %w", errBadFrame, err)
		}
	}
	return a, nil
}

func readBody(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrameBytes {
		return nil, fmt.Errorf("%w: %d bytes", errBadFrame, n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return body, nil
}
