package rafttransport

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// guards P11: the bytes on the wire. A change here is a new protocol version.
func TestGoldenFrames(t *testing.T) {
	h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("a:1")}
	for name, tc := range map[string]struct {
		typ  byte
		enc  func([]byte) []byte
		want string
	}{
		"append": {frameAppend, func(b []byte) []byte {
			return putAppend(b, &raft.AppendEntriesRequest{RPCHeader: h, Term: 300, Leader: []byte("L"), PrevLogEntry: 1, PrevLogTerm: 2, LeaderCommitIndex: 3,
				Entries: []*raft.Log{{Index: 4, Term: 5, Type: raft.LogCommand, Data: []byte("d"), Extensions: []byte("e"), AppendedAt: time.Unix(0, 6)}}})
		}, "010000001803026e3103613a31ac02014c0102030104050001640165" + "06"},
		"vote": {frameVote, func(b []byte) []byte {
			return putVote(b, &raft.RequestVoteRequest{RPCHeader: h, Term: 7, Candidate: []byte("C"), LastLogIndex: 8, LastLogTerm: 9, LeadershipTransfer: true})
		}, "020000000e03026e3103613a31" + "070143080901"},
		"pre-vote": {framePreVote, func(b []byte) []byte {
			return putPreVote(b, &raft.RequestPreVoteRequest{RPCHeader: h, Term: 7, LastLogIndex: 8, LastLogTerm: 9})
		}, "030000000b03026e3103613a31070809"},
		"timeout now": {frameTimeoutNow, func(b []byte) []byte { return putHeader(b, h) }, "040000000803026e3103613a31"},
		"snapshot": {frameSnapshot, func(b []byte) []byte {
			return putSnapshot(b, &raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Term: 2, Leader: []byte("L"), LastLogIndex: 3, LastLogTerm: 4,
				Peers: []byte("P"), Configuration: []byte("C"), ConfigurationIndex: 5, Size: 6})
		}, "050000001403026e3103613a310102014c0304015001430506"},
		"answer": {frameResponse, func(b []byte) []byte {
			return putResponse(b, raft.RPCResponse{Response: &raft.AppendEntriesResponse{RPCHeader: h, Term: 1, LastLog: 2, Success: true}})
		}, "060000000d0003026e3103613a3101020100"},
		"error": {frameResponse, func(b []byte) []byte {
			return putResponse(b, raft.RPCResponse{Error: errors.New("no")})
		}, "0600000003026e6f"},
	} {
		b, err := finish(tc.enc(begin(nil, tc.typ)))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(b); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tc.want)
		}
	}
}

// A later release may append fields.
func TestSurplusIsIgnored(t *testing.T) {
	q := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("n")}, Term: 1}
	cmd, _, err := decodeRequest(frameVote, append(putVote(nil, q), "later"...), "n")
	if err != nil || cmp.Diff(any(q), cmd) != "" {
		t.Error(cmd, err)
	}
}

func genEntry(t *rapid.T) *raft.Log {
	bs := rapid.SliceOfN(rapid.Byte(), 1, 100)
	e := &raft.Log{Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
		Type: raft.LogType(rapid.Byte().Draw(t, "type")), Data: bs.Draw(t, "data")}
	if rapid.Bool().Draw(t, "extended") {
		e.Extensions = bs.Draw(t, "ext")
		e.AppendedAt = time.Unix(0, rapid.Int64Range(1, math.MaxInt64).Draw(t, "at"))
	}
	return e
}

func TestAppendRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64()
		q := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("addr")},
			Term:      u.Draw(t, "term"), Leader: []byte("l"), PrevLogEntry: u.Draw(t, "prev"), PrevLogTerm: u.Draw(t, "prevTerm"),
			LeaderCommitIndex: u.Draw(t, "commit"),
		}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			q.Entries = append(q.Entries, genEntry(t))
		}
		frame, err := finish(putAppend(begin(nil, frameAppend), q))
		if err != nil {
			t.Fatal(err)
		}
		typ, body, err := readFrame(bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		cmd, _, err := decodeRequest(typ, body, "n1")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(any(q), cmd); d != "" {
			t.Fatal(d)
		}
		// Every prefix is malformed, never a shorter request.
		cut := rapid.IntRange(0, len(body)-1).Draw(t, "cut")
		if _, _, err := decodeRequest(typ, body[:cut], "n1"); !errors.Is(err, ErrFrame) {
			t.Fatalf("cut to %d of %d bytes: %v", cut, len(body), err)
		}
	})
}

// guards P10: an announced length costs nothing before its bytes are there.
func TestAnnouncedLengthReservesNothing(t *testing.T) {
	head := []byte{frameAppend, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[1:], maxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := readFrame(bytes.NewReader(head)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4*growStep {
		t.Errorf("%d bytes reserved", got)
	}
	binary.BigEndian.PutUint32(head[1:], maxFrame+1)
	if _, _, err := readFrame(bytes.NewReader(head)); !errors.Is(err, ErrFrameTooLarge) {
		t.Error(err)
	}
	// The same for a count of entries.
	q := putAppend(nil, &raft.AppendEntriesRequest{})
	q = putU(q[:len(q)-1], 1<<40)
	if _, _, err := decodeRequest(frameAppend, q, ""); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

func TestLargeFrame(t *testing.T) {
	body := bytes.Repeat([]byte{7}, 5*growStep+3)
	b, err := finish(append(begin(nil, frameAppend), body...))
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := readFrame(bytes.NewReader(b)); err != nil || !bytes.Equal(got, body) {
		t.Error(len(got), err)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	h := raft.RPCHeader{ID: []byte("n")}
	f.Add(putAppend(begin(nil, frameAppend), &raft.AppendEntriesRequest{RPCHeader: h, Entries: []*raft.Log{{Data: []byte("x")}}}))
	f.Add(putVote(begin(nil, frameVote), &raft.RequestVoteRequest{RPCHeader: h}))
	f.Add(putPreVote(begin(nil, framePreVote), &raft.RequestPreVoteRequest{RPCHeader: h}))
	f.Add(putSnapshot(begin(nil, frameSnapshot), &raft.InstallSnapshotRequest{RPCHeader: h}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= frameHeader && len(b)-frameHeader <= maxFrame {
			binary.BigEndian.PutUint32(b[1:], uint32(len(b)-frameHeader))
		}
		typ, body, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		if cmd, _, err := decodeRequest(typ, body, "n"); err == nil && string(cmd.(raft.WithRPCHeader).GetRPCHeader().ID) != "n" {
			t.Fatal("a request in another's name")
		}
		if q, err := decodeSnapshot(typ, body, "n"); err == nil && q.Size < 0 {
			t.Fatal("negative size")
		}
	})
}

func FuzzTakeResponse(f *testing.F) {
	f.Add(putResponse(nil, raft.RPCResponse{Response: &raft.AppendEntriesResponse{Success: true}}))
	f.Add(putResponse(nil, raft.RPCResponse{Error: errors.New("x")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, into := range []any{new(raft.AppendEntriesResponse), new(raft.RequestVoteResponse), new(raft.RequestPreVoteResponse),
			new(raft.TimeoutNowResponse), new(raft.InstallSnapshotResponse)} {
			_ = takeResponse(b, into)
		}
	})
}
