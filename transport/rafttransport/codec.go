package rafttransport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// A frame is [type: 1 byte][length of the body: 4 bytes, big endian][body].
// Bodies are built of unsigned varints (u) and of byte strings, each a length
// (u) and its bytes (b). The header of every body is
// [protocol version u][server ID b][address b]. Fields are in the order of the
// encoders below. Bytes after the last known field are ignored, so that a later
// release can add fields; any other change needs a new ALPN version of the
// class.
// A response is [error b], and if that is empty, the fields.
const frameHeader = 5

// Frame types.
const (
	frameAppend byte = iota + 1
	frameVote
	framePreVote
	frameTimeoutNow
	frameSnapshot
	frameResponse
)

const (
	// maxFrame bounds one frame. A request for more entries than softFrame is
	// cut (see trim), so only a single huge entry comes near it. With
	// streamsPerConn it bounds what one node can make another one hold.
	maxFrame = 16 << 20
	// softFrame is where AppendEntries stops to add entries: 8 MiB are 65 ms
	// on a 1 Gb/s link, well below the election timeout.
	softFrame = 8 << 20
	// growStep is how much memory an announced length gets before its bytes
	// arrive.
	growStep = 1 << 20
	// entryOverhead is the most that an entry adds to its data: five varints
	// of at most 10 bytes, and its type.
	entryOverhead = 64
)

// Errors of the wire format. ErrFrame says that the peer sent nonsense.
var (
	ErrFrame         = errors.New("rafttransport: malformed frame")
	ErrFrameTooLarge = errors.New("rafttransport: frame too large")
)

// begin starts a frame in b; finish fills in its length.
func begin(b []byte, typ byte) []byte { return append(b[:0], typ, 0, 0, 0, 0) }

func finish(b []byte) ([]byte, error) {
	n := len(b) - frameHeader
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLarge, n, maxFrame)
	}
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	return b, nil
}

// readFrame returns the next frame. The body is the caller's: raft keeps the
// entries that alias it.
func readFrame(r io.Reader) (typ byte, body []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(h[1:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes announced, at most %d", ErrFrameTooLarge, n, maxFrame)
	}
	body = make([]byte, min(n, growStep))
	for have := 0; ; {
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		if have = len(body); have == n {
			return h[0], body, nil
		}
		grown := make([]byte, min(n, 4*have))
		copy(grown, body)
		body = grown
	}
}

func putU(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func putB(b, v []byte) []byte        { return append(binary.AppendUvarint(b, uint64(len(v))), v...) }

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reader takes a body apart. After the first error every read returns zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) u() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	n := r.u()
	if uint64(len(r.b)) < n {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	if n == 0 {
		return nil
	}
	return v
}

func (r *reader) bool() bool {
	switch r.u() {
	case 0:
		return false
	case 1:
		return true
	}
	r.fail()
	return false
}

func (r *reader) fail() { r.err, r.b = ErrFrame, nil }

func putHeader(b []byte, h raft.RPCHeader) []byte {
	return putB(putB(putU(b, uint64(h.ProtocolVersion)), h.ID), h.Addr)
}

func (r *reader) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(r.u()), ID: r.bytes(), Addr: r.bytes()}
}

func putAppend(b []byte, q *raft.AppendEntriesRequest) []byte {
	b = putHeader(b, q.RPCHeader)
	b = putU(b, q.Term)
	b = putB(b, q.Leader)
	b = putU(b, q.PrevLogEntry)
	b = putU(b, q.PrevLogTerm)
	b = putU(b, q.LeaderCommitIndex)
	b = putU(b, uint64(len(q.Entries)))
	for _, e := range q.Entries {
		b = putEntry(b, e)
	}
	return b
}

func (r *reader) append() *raft.AppendEntriesRequest {
	q := &raft.AppendEntriesRequest{RPCHeader: r.header(), Term: r.u(), Leader: r.bytes(),
		PrevLogEntry: r.u(), PrevLogTerm: r.u(), LeaderCommitIndex: r.u()}
	n := r.u()
	// An entry takes at least 6 bytes: a count that the body cannot hold
	// must not reserve memory.
	if n > uint64(len(r.b))/6 {
		r.fail()
		return q
	}
	if n == 0 {
		return q
	}
	entries := make([]raft.Log, n)
	q.Entries = make([]*raft.Log, n)
	for i := range entries {
		r.entry(&entries[i])
		q.Entries[i] = &entries[i]
	}
	return q
}

func putEntry(b []byte, e *raft.Log) []byte {
	b = putU(b, e.Index)
	b = putU(b, e.Term)
	b = append(b, byte(e.Type))
	b = putB(b, e.Data)
	b = putB(b, e.Extensions)
	var at uint64
	if !e.AppendedAt.IsZero() {
		at = uint64(e.AppendedAt.UnixNano())
	}
	return putU(b, at)
}

func (r *reader) entry(e *raft.Log) {
	e.Index, e.Term = r.u(), r.u()
	if len(r.b) == 0 {
		r.fail()
		return
	}
	e.Type, r.b = raft.LogType(r.b[0]), r.b[1:]
	e.Data, e.Extensions = r.bytes(), r.bytes()
	if at := r.u(); at != 0 {
		e.AppendedAt = time.Unix(0, int64(at))
	}
}

func putVote(b []byte, q *raft.RequestVoteRequest) []byte {
	b = putU(putHeader(b, q.RPCHeader), q.Term)
	b = putB(b, q.Candidate)
	b = putU(putU(b, q.LastLogIndex), q.LastLogTerm)
	return putBool(b, q.LeadershipTransfer)
}

func (r *reader) vote() *raft.RequestVoteRequest {
	return &raft.RequestVoteRequest{RPCHeader: r.header(), Term: r.u(), Candidate: r.bytes(),
		LastLogIndex: r.u(), LastLogTerm: r.u(), LeadershipTransfer: r.bool()}
}

func putPreVote(b []byte, q *raft.RequestPreVoteRequest) []byte {
	return putU(putU(putU(putHeader(b, q.RPCHeader), q.Term), q.LastLogIndex), q.LastLogTerm)
}

func (r *reader) preVote() *raft.RequestPreVoteRequest {
	return &raft.RequestPreVoteRequest{RPCHeader: r.header(), Term: r.u(), LastLogIndex: r.u(), LastLogTerm: r.u()}
}

func putSnapshot(b []byte, q *raft.InstallSnapshotRequest) []byte {
	b = putU(putHeader(b, q.RPCHeader), uint64(q.SnapshotVersion))
	b = putU(b, q.Term)
	b = putB(b, q.Leader)
	b = putU(putU(b, q.LastLogIndex), q.LastLogTerm)
	b = putB(putB(b, q.Peers), q.Configuration)
	return putU(putU(b, q.ConfigurationIndex), uint64(q.Size))
}

func (r *reader) snapshot() *raft.InstallSnapshotRequest {
	q := &raft.InstallSnapshotRequest{RPCHeader: r.header(), SnapshotVersion: raft.SnapshotVersion(r.u()), Term: r.u(),
		Leader: r.bytes(), LastLogIndex: r.u(), LastLogTerm: r.u(), Peers: r.bytes(), Configuration: r.bytes(),
		ConfigurationIndex: r.u()}
	if q.Size = int64(r.u()); q.Size < 0 {
		r.fail()
	}
	return q
}
