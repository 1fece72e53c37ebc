package node

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"holdfast/consensus"
	"holdfast/fsm"
)

// machine is the state as consensus applies it. Snapshots are compressed
// here: what goes to the disk and to a peer is the compressed stream, each
// then encrypted in its own way.
type machine struct{ state *fsm.State }

func (m machine) Apply(index uint64, batch []byte) (fsm.Applied, error) {
	return m.state.Apply(index, batch)
}

func (m machine) Now() int64 { return m.state.Now() }

func (m machine) Snapshot() consensus.StateSnapshot { return compressed{m.state.Snapshot()} }

func (m machine) Restore(r io.Reader) error { return decompress(r, m.state.Restore) }

// compressed is a state snapshot that writes itself as a zstd stream.
type compressed struct{ *fsm.Snapshot }

func (c compressed) WriteTo(w io.Writer) (int64, error) {
	count := &countingWriter{w: w}
	err := compressTo(count, func(z io.Writer) error {
		_, err := c.Snapshot.WriteTo(z)
		return err
	})
	return count.n, err
}

func compressTo(w io.Writer, write func(io.Writer) error) error {
	// One encoder goroutine: the snapshot runs beside the commits, and must
	// not take a second core from them.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("compress the snapshot: %w", err)
	}
	return errors.Join(write(z), z.Close())
}

// maxSnapshotWindow bounds the memory that a hostile or damaged stream can
// ask the decoder for; SpeedFastest uses 4 MiB.
const maxSnapshotWindow = 32 << 20

func decompress(r io.Reader, read func(io.Reader) error) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxSnapshotWindow))
	if err != nil {
		return fmt.Errorf("decompress the snapshot: %w", err)
	}
	defer z.Close()
	if err := read(z); err != nil {
		return err
	}
	// What lies behind the state's own end must be the end of the stream: a
	// snapshot counts only once its last chunk was authenticated.
	if n, err := io.Copy(io.Discard, z); err != nil || n > 0 {
		return fmt.Errorf("snapshot has %d bytes behind its end: %w", n, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// checkSnapshot reads a stored snapshot into a state of its own, so that a
// bad one is refused before any node replaces its state by it.
func checkSnapshot(r io.Reader) error { return machine{fsm.New(fsm.Limits{})}.Restore(r) }
