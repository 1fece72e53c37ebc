package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/raft"
)

// logs, stable and snapshots are raft's stores on a disk.
type (
	logs      struct{ d *disk }
	stable    struct{ d *disk }
	snapshots struct{ d *disk }
)

// IsMonotonic is false, as of the real store.
func (logs) IsMonotonic() bool { return false }

func (l logs) FirstIndex() (n uint64, err error) {
	return n, l.d.read(func(i *image) error { n = i.first; return nil })
}

func (l logs) LastIndex() (n uint64, err error) {
	return n, l.d.read(func(i *image) error { n = i.last; return nil })
}

func (l logs) GetLog(k uint64, out *raft.Log) error {
	return l.d.read(func(i *image) error {
		e, ok := i.logs[k]
		if !ok {
			return raft.ErrLogNotFound
		}
		*out = *e
		return nil
	})
}

func (l logs) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l logs) StoreLogs(es []*raft.Log) error {
	own := make([]*raft.Log, len(es))
	for i, e := range es {
		one := *e
		own[i] = &one
	}
	return l.d.write("append", func(i *image) {
		for _, e := range own {
			i.logs[e.Index] = e
			if i.first == 0 || e.Index < i.first {
				i.first = e.Index
			}
			i.last = max(i.last, e.Index)
		}
	})
}

func (l logs) DeleteRange(from, to uint64) error {
	return l.d.write("truncation", func(i *image) {
		for k := max(from, i.first); k <= min(to, i.last); k++ {
			delete(i.logs, k)
		}
		if len(i.logs) == 0 {
			i.first, i.last = 0, 0
			return
		}
		for i.logs[i.first] == nil {
			i.first++
		}
		for i.logs[i.last] == nil {
			i.last--
		}
	})
}

// Set stores one of raft's own values: its term and its vote. Raft panics if
// that fails; here the process is dead by then, and its ghost need not know.
func (s stable) Set(k, v []byte) error {
	value := bytes.Clone(v)
	if err := s.d.write("vote", func(i *image) { i.kv[string(k)] = value }); err != nil {
		s.d.mu.Lock()
		ended := s.d.ended
		s.d.mu.Unlock()
		<-ended.Done()
	}
	return nil
}

func (s stable) Get(k []byte) (v []byte, err error) {
	err = s.d.read(func(i *image) error {
		b, ok := i.kv[string(k)]
		if !ok {
			return errors.New("not found") // raft knows it by its text
		}
		v = bytes.Clone(b)
		return nil
	})
	return v, err
}

func (s stable) SetUint64(k []byte, v uint64) error {
	return s.Set(k, binary.BigEndian.AppendUint64(nil, v))
}

func (s stable) GetUint64(k []byte) (uint64, error) {
	b, err := s.Get(k)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// keptSnapshots as in the real store.
const keptSnapshots = 2

func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	k := &sink{d: s.d, meta: raft.SnapshotMeta{Version: v, Index: index, Term: term, Configuration: c.Clone(), ConfigurationIndex: ci}}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.live.seq++
	k.meta.ID = fmt.Sprintf("%d-%d-%d", term, index, s.d.live.seq)
	return k, nil
}

func (s snapshots) List() (out []*raft.SnapshotMeta, err error) {
	err = s.d.read(func(i *image) error {
		for _, sn := range slices.Backward(i.snaps) {
			meta := sn.meta
			out = append(out, &meta)
		}
		return nil
	})
	return out, err
}

func (s snapshots) Open(id string) (meta *raft.SnapshotMeta, rc io.ReadCloser, err error) {
	err = s.d.read(func(i *image) error {
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

type sink struct {
	d    *disk
	meta raft.SnapshotMeta
	buf  bytes.Buffer
	done bool
}

func (k *sink) ID() string                  { return k.meta.ID }
func (k *sink) Write(p []byte) (int, error) { return k.buf.Write(p) }
func (k *sink) Cancel() error               { k.done = true; return nil }

// Close makes the snapshot visible at once and whole, as a rename does.
func (k *sink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	k.meta.Size = int64(k.buf.Len())
	k.d.w.count("snapshot taken")
	return k.d.write("snapshot", func(i *image) {
		snaps := append(slices.Clone(i.snaps), snapshot{k.meta, k.buf.Bytes()})
		slices.SortStableFunc(snaps, func(a, b snapshot) int {
			if a.meta.Term != b.meta.Term {
				return int(int64(a.meta.Term) - int64(b.meta.Term))
			}
			return int(int64(a.meta.Index) - int64(b.meta.Index))
		})
		i.snaps = snaps[max(0, len(snaps)-keptSnapshots):]
		i.seq = max(i.seq, 1)
	})
}
