package storage

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"
)

const (
	// zstdWindow: the default level's window is 8 MiB; what needs more is not
	// ours. It bounds the memory that a stream can ask the decoder for.
	zstdWindow = 8 << 20
)

// Compressing wraps a point-in-time snapshot so that Persist writes it as one
// zstd stream. Restore must read it through Decompressing. raft sees, counts
// and sends the compressed form.
func Compressing(s raft.FSMSnapshot) raft.FSMSnapshot { return compressed{s} }

type compressed struct{ raft.FSMSnapshot }

func (c compressed) Persist(sink raft.SnapshotSink) error {
	// One worker: no goroutines, and the other core stays with the writers. The
	// fastest level, for the same reason.
	w, err := zstd.NewWriter(sink, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true), zstd.WithWindowSize(zstdWindow))
	if err != nil {
		return fmt.Errorf("compress a snapshot: %w", err)
	}
	z := &zstdSink{SnapshotSink: sink, w: w}
	if err := c.FSMSnapshot.Persist(z); err != nil {
		return err // raft cancels the sink
	}
	if z.cancelled {
		return nil
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress a snapshot: %w", err)
	}
	return sink.Close()
}

// zstdSink is what the inner Persist sees. Its Close ends nothing: the wrapper
// has to write the end of the zstd stream first. (raft closes a sink again
// after Persist; a sink's Close bears that.)
type zstdSink struct {
	raft.SnapshotSink
	w         *zstd.Encoder
	cancelled bool
}

func (z *zstdSink) Write(p []byte) (int, error) { return z.w.Write(p) }
func (z *zstdSink) Close() error                { return nil }
func (z *zstdSink) Cancel() error {
	z.cancelled = true
	return z.SnapshotSink.Cancel()
}

// Decompressing undoes Compressing for raft.FSM.Restore. Closing it closes rc.
// A reader of the state must read to io.EOF before it trusts what it read: the
// store authenticates while it streams, and a cut stream is an error only at
// its end.
func Decompressing(rc io.ReadCloser) (io.ReadCloser, error) {
	d, err := zstd.NewReader(rc, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("decompress a snapshot: %w", err)
	}
	return &decompressed{d, rc}, nil
}

type decompressed struct {
	*zstd.Decoder
	rc io.Closer
}

func (d *decompressed) Close() error {
	d.Decoder.Close()
	return d.rc.Close()
}
