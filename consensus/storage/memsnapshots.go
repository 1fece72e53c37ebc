package storage

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
)

type memSnapshots struct{ m *Memory }

func (s memSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("create a snapshot: version %d of raft's metadata is not supported", version)
	}
	k := &memSink{m: s.m, meta: raft.SnapshotMeta{
		Version: version, Index: index, Term: term, Configuration: conf.Clone(), ConfigurationIndex: confIndex,
	}}
	err := s.m.write(func(i *image) {
		i.seq++ // no clock: IDs repeat under one seed
		k.meta.ID = fmt.Sprintf("%d-%d-%d", term, index, i.seq)
	})
	return k, err
}

func (s memSnapshots) List() (out []*raft.SnapshotMeta, err error) {
	err = s.m.read(func(i *image) error {
		for _, sn := range slices.Backward(i.snaps) {
			meta := sn.meta
			out = append(out, &meta)
		}
		return nil
	})
	return out, err
}

func (s memSnapshots) Open(id string) (meta *raft.SnapshotMeta, rc io.ReadCloser, err error) {
	err = s.m.read(func(i *image) error {
		for _, sn := range i.snaps {
			if sn.meta.ID == id {
				m := sn.meta
				meta, rc = &m, io.NopCloser(bytes.NewReader(sn.data))
				return nil
			}
		}
		return fmt.Errorf("open snapshot %q: not there", id)
	})
	return meta, rc, err
}

type memSink struct {
	m    *Memory
	meta raft.SnapshotMeta
	buf  bytes.Buffer
	done bool
}

func (k *memSink) ID() string { return k.meta.ID }

func (k *memSink) Write(p []byte) (int, error) {
	if k.done {
		return 0, ErrClosed
	}
	return k.buf.Write(p)
}

func (k *memSink) Cancel() error {
	k.done = true
	k.buf = bytes.Buffer{}
	return nil
}

// Close makes the snapshot visible and keeps the newest two.
func (k *memSink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	k.meta.Size = int64(k.buf.Len())
	return k.m.write(func(i *image) {
		snaps := append(slices.Clone(i.snaps), memSnapshot{k.meta, k.buf.Bytes()})
		slices.SortStableFunc(snaps, func(a, b memSnapshot) int {
			if a.meta.Term != b.meta.Term {
				return int(int64(a.meta.Term) - int64(b.meta.Term))
			}
			return int(int64(a.meta.Index) - int64(b.meta.Index))
		})
		i.snaps = snaps[max(0, len(snaps)-defaultRetain):]
	})
}
