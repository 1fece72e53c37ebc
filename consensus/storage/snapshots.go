package storage

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// defaultRetain: the newest, and one to fall back to.
	defaultRetain = 2
	stateFile     = "state"
	metaFile      = "meta"
	// maxMeta bounds the metadata; the configuration of a large cluster is
	// some 10 KiB.
	maxMeta = 1 << 20
)

// snapshotMeta is the plaintext of the meta file (JSON in a sealed stream with
// the label "holdfast/snapshot/v1 meta <id>"). The state file beside it is a
// sealed stream with the label "... state <id>": neither can be taken for
// another snapshot's.
type snapshotMeta struct {
	Format             int                `json:"format"`
	ID                 string             `json:"id"`
	Version            int                `json:"version"` // raft's
	Index              uint64             `json:"index"`
	Term               uint64             `json:"term"`
	Configuration      raft.Configuration `json:"configuration"`
	ConfigurationIndex uint64             `json:"configuration_index"`
	Size               int64              `json:"size"`   // plaintext bytes
	Sealed             int64              `json:"sealed"` // bytes of the state file
	SHA256             []byte             `json:"sha256"` // of the plaintext
}

const snapshotFormat = 1

func (m *snapshotMeta) raft() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersion(m.Version), ID: m.ID, Index: m.Index, Term: m.Term,
		Configuration: m.Configuration, ConfigurationIndex: m.ConfigurationIndex, Size: m.Size,
	}
}

// snapshotStore keeps each snapshot in a folder of its own, made under a
// temporary name and renamed when everything in it is durable. Safe for
// concurrent use.
type snapshotStore struct {
	dir    string
	key    []byte
	store  [16]byte
	retain int
	log    hclog.Logger
	rand   io.Reader
	now    func() time.Time

	mu       sync.Mutex
	reported map[string]bool // damaged ones that were logged
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

func openSnapshots(o *Options, store [16]byte) (*snapshotStore, error) {
	s := &snapshotStore{
		dir: filepath.Join(o.Dir, snapshotsDir), store: store,
		key:    deriveKey(o.Key.Subkey(labelSnapshot), store[:], labelSnapshot),
		retain: o.Retain, log: o.Logger, rand: o.Rand, now: o.Now, reported: map[string]bool{},
	}
	if err := os.MkdirAll(s.dir, dirMode); err != nil {
		return nil, fmt.Errorf("create the snapshot folder: %w", err)
	}
	if err := checkPrivate(s.dir); err != nil {
		return nil, err
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if strings.HasSuffix(n.Name(), tmpSuffix) {
			s.log.Warn("removing an unfinished snapshot", "name", n.Name())
			if err := os.RemoveAll(filepath.Join(s.dir, n.Name())); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *snapshotStore) label(part, id string) string { return labelSnapshot + " " + part + " " + id }

func (s *snapshotStore) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// snapshotID is the folder's name: term, index, milliseconds.
func snapshotID(term, index uint64, at time.Time) string {
	return fmt.Sprintf("%d-%d-%d", term, index, at.UnixMilli())
}

// checkID keeps an ID from being a path.
func checkID(id string) error {
	var a, b uint64
	var ms int64
	if n, err := fmt.Sscanf(id, "%d-%d-%d", &a, &b, &ms); err != nil || n != 3 || id != fmt.Sprintf("%d-%d-%d", a, b, ms) {
		return fmt.Errorf("snapshot %q: not an ID of this store", id)
	}
	return nil
}

// readMeta authenticates one snapshot's metadata and the length of its state.
func (s *snapshotStore) readMeta(id string) (*snapshotMeta, error) {
	path := s.path(id, metaFile)
	damaged := func(p string, err error) error { return &DamageError{File: p, Where: "snapshot " + id, Err: err} }
	f, err := os.Open(path)
	if err != nil {
		return nil, damaged(path, err)
	}
	defer f.Close()
	r, err := NewSealReader(f, s.key, s.label("meta", id))
	if err != nil {
		return nil, damaged(path, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxMeta+1))
	if err == nil && len(b) > maxMeta {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, damaged(path, err)
	}
	var m snapshotMeta
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, damaged(path, err)
	}
	if m.Format != snapshotFormat || m.ID != id {
		return nil, damaged(path, fmt.Errorf("%w %d", ErrFormat, m.Format))
	}
	st, err := os.Stat(s.path(id, stateFile))
	if err != nil {
		return nil, damaged(s.path(id, stateFile), err)
	}
	if st.Size() != m.Sealed {
		return nil, damaged(s.path(id, stateFile), fmt.Errorf("%d bytes, written were %d", st.Size(), m.Sealed))
	}
	return &m, nil
}

// scan returns the sound snapshots, newest first, and what is wrong with the
// others. Their files are left where they are.
func (s *snapshotStore) scan() (sound []*snapshotMeta, bad []error, err error) {
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("list snapshots: %w", err)
	}
	for _, n := range names {
		if !n.IsDir() || strings.HasSuffix(n.Name(), tmpSuffix) || checkID(n.Name()) != nil {
			continue
		}
		m, err := s.readMeta(n.Name())
		if err == nil {
			sound = append(sound, m)
			continue
		}
		bad = append(bad, err)
		s.mu.Lock()
		if !s.reported[n.Name()] {
			s.reported[n.Name()] = true
			s.log.Error("skipping a damaged snapshot", "id", n.Name(), "error", err)
		}
		s.mu.Unlock()
	}
	sort.Slice(sound, func(i, j int) bool {
		a, b := sound[i], sound[j]
		if a.Term != b.Term {
			return a.Term > b.Term
		}
		if a.Index != b.Index {
			return a.Index > b.Index
		}
		return len(a.ID) > len(b.ID) || (len(a.ID) == len(b.ID) && a.ID > b.ID)
	})
	return sound, bad, nil
}

// List returns the newest snapshots whose metadata is sound, newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	sound, _, err := s.scan()
	if err != nil {
		return nil, err
	}
	var out []*raft.SnapshotMeta
	for _, m := range sound[:min(len(sound), s.retain)] {
		out = append(out, m.raft())
	}
	return out, nil
}

// Open returns a snapshot's metadata and a reader of exactly Size bytes, which
// authenticates while it streams: an error names the file and the offset, and
// io.EOF comes only after everything, including the checksum, was found sound.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := checkID(id); err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(s.path(id)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	m, err := s.readMeta(id)
	if err != nil {
		return nil, nil, err
	}
	path := s.path(id, stateFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	r, err := NewSealReader(f, s.key, s.label("state", id))
	if err != nil {
		f.Close()
		return nil, nil, &DamageError{File: path, Where: "offset 0", Err: err}
	}
	return m.raft(), &snapshotReader{f: f, r: r, sum: sha256.New(), m: m}, nil
}

// Damaged returns an error for every snapshot that List skips.
func (s *snapshotStore) Damaged() ([]error, error) {
	_, bad, err := s.scan()
	return bad, err
}

// reap removes sound snapshots beyond the bound, under a temporary name so that
// a crash on the way leaves nothing that looks damaged.
func (s *snapshotStore) reap() error {
	sound, _, err := s.scan()
	if err != nil {
		return err
	}
	for _, m := range sound[min(len(sound), s.retain):] {
		tmp := s.path(m.ID + tmpSuffix)
		if err := os.Rename(s.path(m.ID), tmp); err != nil {
			return fmt.Errorf("remove old snapshot %s: %w", m.ID, err)
		}
		if err := os.RemoveAll(tmp); err != nil {
			return fmt.Errorf("remove old snapshot %s: %w", m.ID, err)
		}
	}
	return nil
}
