package consensus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// Our own header stands before the state in a snapshot. It carries the applied
// index, which the library knows and does not tell: a follower that installs a
// snapshot would otherwise not know what it may answer until the next command.
// The header itself is never compressed, so that a state that a user brings,
// whose size must be known before it is read, can stand there as it is.
const (
	magicPlain         = "HFS1"
	magicCompressed    = "HFZ1"
	snapshotHeaderSize = 12 // magic, then the index as 8 bytes, big endian
)

func snapshotHeader(magic string, index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(magic), index)
}

func readSnapshotHeader(r io.Reader) (magic string, index uint64, err error) {
	var h [snapshotHeaderSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", 0, fmt.Errorf("read the snapshot's header: %w", err)
	}
	magic = string(h[:4])
	if magic != magicPlain && magic != magicCompressed {
		return "", 0, fmt.Errorf("the snapshot begins with %q: damaged, or written by another version", magic)
	}
	return magic, binary.BigEndian.Uint64(h[4:]), nil
}

// Snapshot implements raft.FSM.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	if a.failed.Load() != nil {
		return nil, errLatched
	}
	if err := a.log.coverable(); err != nil {
		return nil, err
	}
	return &persister{
		index: a.applied.index.Load(),
		state: a.sm.Snapshot(),
		bytes: a.bytes.Load(),
		a:     a,
	}, nil
}

// Restore implements raft.FSM. An error is latched and not returned: the
// library panics on it after a user's restore.
func (a *applier) Restore(rc io.ReadCloser) error {
	defer rc.Close() //nolint:errcheck // only read
	index, err := a.restore(rc)
	if err != nil {
		a.latch(&ApplyError{Err: err})
		return nil
	}
	a.bytes.Store(0)
	a.applied.advance(index)
	for _, f := range a.onRestored.list() {
		f(a.applied.index.Load())
	}
	return nil
}

func (a *applier) restore(rc io.Reader) (uint64, error) {
	var r io.Reader = bufio.NewReaderSize(rc, 256<<10)
	magic, index, err := readSnapshotHeader(r)
	if err != nil {
		return 0, err
	}
	if magic == magicCompressed {
		if a.decompress == nil {
			return 0, errors.New("the snapshot is compressed and Config.Decompress is not set")
		}
		d, err := a.decompress(io.NopCloser(r))
		if err != nil {
			return 0, err
		}
		defer d.Close() //nolint:errcheck // only read
		r = d
	}
	if err := a.sm.Restore(r); err != nil {
		return 0, err
	}
	// Stores authenticate while they stream: only the end is proof of it all.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return 0, fmt.Errorf("read the snapshot to its end: %w", err)
	}
	return index, nil
}

// persister writes one snapshot, beside further applies.
type persister struct {
	index uint64
	state StateSnapshot
	bytes int64
	a     *applier
}

// Persist implements raft.FSMSnapshot.
func (p *persister) Persist(sink raft.SnapshotSink) error {
	var body raft.FSMSnapshot = plainState{p.state}
	magic := magicPlain
	if p.a.compress != nil {
		body, magic = p.a.compress(body), magicCompressed
	}
	_, err := sink.Write(snapshotHeader(magic, p.index))
	if err == nil {
		err = body.Persist(sink)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("consensus: write the snapshot at %d: %w", p.index, err), sink.Cancel())
	}
	p.a.bytes.Add(-p.bytes)
	return nil
}

// Release implements raft.FSMSnapshot.
func (p *persister) Release() { p.state.Release() }

// plainState writes the state and closes the sink, as raft.FSMSnapshot demands.
type plainState struct{ StateSnapshot }

func (p plainState) Persist(sink raft.SnapshotSink) error {
	if _, err := p.WriteTo(sink); err != nil {
		return err
	}
	return sink.Close()
}
