package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"holdfast/consensus/storage"
	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/rpc"
)

// SaveSnapshot writes a portable snapshot of this node's state.
func (b backend) SaveSnapshot(_ context.Context, w io.Writer) error {
	s := b.n.state.Snapshot()
	defer s.Release()
	_, err := s.WritePortable(w)
	return err
}

// RestoreSnapshot replaces the tasks, API tokens and settings of the cluster
// by those of a portable snapshot, on every node.
func (b backend) RestoreSnapshot(ctx context.Context, r io.Reader) error {
	n := b.n
	leader := n.group.Leader()
	switch {
	case leader.Self:
		return n.restoreHere(ctx, r)
	case leader.ID == "":
		return api.ErrNoLeader
	}
	conn, err := n.bulk.Stream(ctx, leader.ID, methodRestore, nil)
	if err != nil {
		return apiError(unreachable(err))
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := sendChunks(conn, r); err != nil {
		return fmt.Errorf("send the snapshot to the leader: %w", err)
	}
	var a restoreAnswer
	if err := rpc.ReadFrame(conn, &a); err != nil {
		return fmt.Errorf("%w: the leader's answer to the restore: %w", api.ErrUnknownOutcome, err)
	}
	return a.err()
}

// restoreChunk carries a snapshot to the leader; an empty one ends it, so that
// a broken stream is never taken for a whole snapshot.
type restoreChunk struct {
	Bytes []byte `cbor:"1,keyasint,omitempty"`
}

type restoreAnswer struct {
	Invalid bool   `cbor:"1,keyasint,omitempty"`
	Problem string `cbor:"2,keyasint,omitempty"`
}

func (a restoreAnswer) err() error {
	switch {
	case a.Problem == "":
		return nil
	case a.Invalid:
		return fmt.Errorf("%w: %s", api.ErrInvalid, a.Problem)
	}
	return errors.New(a.Problem)
}

const restoreChunkBytes = 256 << 10

func sendChunks(w io.Writer, r io.Reader) error {
	buf := make([]byte, restoreChunkBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := rpc.WriteFrame(w, restoreChunk{buf[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return rpc.WriteFrame(w, restoreChunk{})
		case err != nil:
			return err
		}
	}
}

// chunkReader reads what sendChunks sends.
type chunkReader struct {
	r    io.Reader
	rest []byte
	done bool
}

func (c *chunkReader) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.done {
			return 0, io.EOF
		}
		var next restoreChunk
		if err := rpc.ReadFrame(c.r, &next); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		c.rest, c.done = next.Bytes, len(next.Bytes) == 0
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// serveRestore is the leader's end.
func (n *Node) serveRestore(ctx context.Context, peer string, _ []byte, conn net.Conn) {
	err := n.restoreHere(ctx, &chunkReader{r: conn})
	a := restoreAnswer{Invalid: errors.Is(err, api.ErrInvalid)}
	if err != nil {
		a.Problem = err.Error()
		n.log.Warn("restore failed", "asked-by", peer, "error", err)
	}
	if err := rpc.WriteFrame(conn, a); err != nil {
		n.log.Debug("restore's outcome not sent", "peer", peer, "error", err)
	}
}

// restoreHere merges the portable snapshot with this cluster's identity and
// has raft replace the state by it. The merged snapshot can be large and holds
// secrets, so that it waits on disk, sealed under a key that only this
// process knows.
func (n *Node) restoreHere(ctx context.Context, r io.Reader) error {
	spool, err := newSpool(string(n.folder))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer spool.close()
	if err := spool.fill(func(w io.Writer) error { return n.state.MergePortable(r, w) }); err != nil {
		return fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	n.log.Warn("replacing the cluster's state by a snapshot", "bytes", spool.size)
	return apiError(n.group.Restore(ctx, spool.size, spool))
}

// spool is a sealed temporary file that can be read more than once.
type spool struct {
	file   *os.File
	key    []byte
	size   int64 // of the plaintext
	offset int64
	follow *storage.SealFollower
}

const spoolLabel = "holdfast/spool/v1"

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "restore-*.tmp")
	if err != nil {
		return nil, err
	}
	// Nobody else opens it, and a crash must leave nothing.
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	key := make([]byte, storage.KeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{file: f, key: key}, nil
}

func (s *spool) fill(write func(io.Writer) error) error {
	seal, err := storage.NewSealWriter(s.file, s.key, spoolLabel)
	if err != nil {
		return err
	}
	count := &countingWriter{w: seal}
	if err := errors.Join(write(count), seal.Close()); err != nil {
		return err
	}
	s.size = count.n
	s.follow = storage.NewSealFollower(s.file, s.key, spoolLabel)
	return nil
}

func (s *spool) Read(b []byte) (int, error) {
	if s.offset >= s.size {
		return 0, io.EOF
	}
	n, err := s.follow.ReadAt(b, s.offset)
	s.offset += int64(n)
	return n, err
}

func (s *spool) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.offset
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 || offset > s.size {
		return 0, fmt.Errorf("seek to %d of %d bytes", offset, s.size)
	}
	s.offset = offset
	return offset, nil
}

func (s *spool) close() { _ = s.file.Close() }

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// checkSnapshot reads a snapshot into a state of its own, so that a bad one is
// refused before any node replaces its state by it.
func checkSnapshot(r io.Reader) error { return fsm.New(fsm.Limits{}).Restore(r) }
