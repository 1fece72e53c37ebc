package rafttransport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/raft"
)

const (
	snapshotChunk = 256 << 10
	// snapshotAnswer plus a second per snapshotRate bytes is how long the
	// follower may take to restore: raft answers after that. The connection's
	// own idle time notices a dead follower in 2 s.
	snapshotAnswer = time.Minute
	snapshotRate   = 1 << 20
)

// InstallSnapshot streams a snapshot on a connection of class Bulk.
func (t *Transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	k := t.keyOf(id, target)
	if err := t.install(k, args, resp, data); err != nil {
		return fmt.Errorf("install snapshot of %d bytes on %s at %s: %w", args.Size, id, k.addr, err)
	}
	return nil
}

func (t *Transport) install(k poolKey, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Timeout)
	defer cancel()
	c, err := t.mux.Dial(ctx, k.addr, transport.Bulk, k.id)
	if err != nil {
		return err
	}
	q, err := c.OpenKind(ctx, transport.KindSnapshot)
	if err != nil {
		return err
	}
	defer q.Abort()
	stop := context.AfterFunc(t.ctx, q.Abort)
	defer stop()
	s := &stream{Stream: q, key: k, r: bufio.NewReaderSize(q, readBuffer)}
	_ = s.SetWriteDeadline(time.Now().Add(t.cfg.Timeout))
	if err := s.send(frameSnapshot, func(b []byte) []byte { return putSnapshot(b, args) }); err != nil {
		return err
	}
	// LimitReader: more than was announced would be read as the next frame.
	_, sendErr := io.CopyBuffer(&patientWriter{q, t.stall()}, io.LimitReader(data, args.Size), make([]byte, snapshotChunk))
	if sendErr == nil {
		sendErr = q.CloseWrite()
	}
	// A follower that refuses (an old term) answers without reading the data,
	// and stops us from sending it. Its answer is worth more than our error.
	wait := snapshotAnswer + time.Duration(args.Size/snapshotRate)*time.Second
	if sendErr != nil {
		wait = t.cfg.Timeout
	}
	_ = s.SetReadDeadline(time.Now().Add(wait))
	if err := s.receive(resp); err != nil {
		if _, answered := err.(*RemoteError); !answered && sendErr != nil {
			return sendErr
		}
		return err
	}
	return nil
}

// stallFactor: a snapshot may pause longer than a request may take, since the
// follower writes it to its disk.
const stallFactor = 5

func (t *Transport) stall() time.Duration { return stallFactor * t.cfg.Timeout }

// patientWriter bounds each write instead of the whole transfer: a large
// snapshot may take its time as long as it moves.
type patientWriter struct {
	s *transport.Stream
	d time.Duration
}

func (w *patientWriter) Write(b []byte) (int, error) {
	_ = w.s.SetWriteDeadline(time.Now().Add(w.d))
	return w.s.Write(b)
}

// patientReader is the same for reads.
type patientReader struct {
	s *transport.Stream
	r io.Reader
	d time.Duration
}

func (r *patientReader) Read(b []byte) (int, error) {
	_ = r.s.SetReadDeadline(time.Now().Add(r.d))
	return r.r.Read(b)
}

// serveSnapshot serves one stream of kind KindSnapshot.
func (t *Transport) serveSnapshot(_ context.Context, s *transport.Stream) {
	if !t.track() {
		s.Abort()
		return
	}
	defer t.wg.Done()
	defer context.AfterFunc(t.ctx, s.Abort)()
	defer s.Close()
	r := bufio.NewReaderSize(s, readBuffer)
	_ = s.SetReadDeadline(time.Now().Add(t.cfg.Timeout))
	typ, body, err := readFrame(r)
	if err != nil {
		return
	}
	q, err := decodeSnapshot(typ, body, s.Conn().PeerNodeID())
	if err != nil {
		t.cfg.Logger.Warn("snapshot refused", "peer", s.Conn().PeerNodeID(), "error", err)
		s.Abort()
		return
	}
	// raft reads the data in its main loop: a sender that stalls must not
	// stop this node.
	data := &patientReader{s, io.LimitReader(r, q.Size), t.stall()}
	answer, ok := t.hand(s, raft.RPC{Command: q, Reader: data}, false)
	if !ok {
		return
	}
	var buf []byte
	if err := t.answer(s, answer, &buf); err != nil {
		s.Abort()
	}
}

func decodeSnapshot(typ byte, body []byte, peer string) (*raft.InstallSnapshotRequest, error) {
	if typ != frameSnapshot {
		return nil, fmt.Errorf("%w: type %d is no snapshot", ErrFrame, typ)
	}
	r := &reader{b: body}
	q := r.snapshot()
	if r.err != nil {
		return nil, r.err
	}
	return q, checkSender(q.RPCHeader, peer)
}
