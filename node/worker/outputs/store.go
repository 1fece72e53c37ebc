package outputs

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"holdfast/fsm"
	"holdfast/node/worker"
)

const (
	// DefaultLimit bounds one attempt's output over both streams.
	DefaultLimit int64 = 64 << 20
	// DefaultMaxAge is how long outputs stay when there is room.
	DefaultMaxAge = 30 * 24 * time.Hour
	// defaultMaxBytes and defaultDiskShare: whichever is less bounds the folder.
	defaultMaxBytes  int64 = 10 << 30
	defaultDiskShare       = 10 // a tenth of the disk
	// defaultMaxAttempts matches the finished tasks that the state keeps. It
	// bounds the index in memory and the files in the folder.
	defaultMaxAttempts = 100_000
	// flushAfter is how long written bytes may be invisible to readers. Each
	// flush costs 20 bytes on disk.
	flushAfter = 50 * time.Millisecond
)

var (
	// ErrNotFound means that nothing is kept of this attempt: it wrote nothing,
	// was never here, or went to make room.
	ErrNotFound = errors.New("no output of this attempt is kept on this node")
	// ErrCutShort ends an output whose writing a crash of the node interrupted.
	ErrCutShort = errors.New("the output is cut short: the node or its disk stopped while the task was writing")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the outputs folder is closed")
)

// Config is what a Store needs. Dir and Key are required.
type Config struct {
	Dir         string
	Key         []byte        // 32 bytes
	MaxBytes    int64         // of the whole folder; 0 = 10 GiB or a tenth of the disk
	MaxAge      time.Duration // 0 = DefaultMaxAge
	MaxAttempts int           // 0 = 100,000
	Now         func() time.Time
	Logger      hclog.Logger
}

// Store is the folder of all outputs on this node.
type Store struct {
	cfg Config

	mu       sync.Mutex
	closed   bool
	bytes    int64 // on disk, of live and finished attempts
	live     map[name]*recorder
	finished *list.List // of *kept, oldest first
	byName   map[name]*list.Element
}

// name identifies an attempt's output.
type name struct {
	task    fsm.TaskID
	attempt uint32
}

// kept is a finished attempt with files.
type kept struct {
	name
	at    time.Time
	bytes int64
}

func (n name) file(s Stream) string {
	return n.task.String() + "." + strconv.FormatUint(uint64(n.attempt), 10) + "." + s.String()
}

// parseFile reads what file wrote.
func parseFile(base string) (name, bool) {
	parts := strings.Split(base, ".")
	if len(parts) != 3 || parts[2] != Stdout.String() && parts[2] != Stderr.String() {
		return name{}, false
	}
	task, err := fsm.ParseTaskID(parts[0])
	attempt, attemptErr := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || attemptErr != nil {
		return name{}, false
	}
	return name{task, uint32(attempt)}, true
}

// Open opens the folder, makes it if need be, and forgets what is over the
// bounds. Files that a crash left open count as finished.
func Open(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.MaxAttempts <= 0 {
		cfg.MaxAttempts = defaultMaxAttempts
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for outputs: %w", err)
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultBytes(cfg.Dir)
	}
	s := &Store{cfg: cfg, live: map[name]*recorder{}, finished: list.New(), byName: map[name]*list.Element{}}
	if err := s.scan(); err != nil {
		return nil, err
	}
	s.Sweep()
	return s, nil
}

func defaultBytes(dir string) int64 {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return defaultMaxBytes
	}
	return min(defaultMaxBytes, int64(fs.Blocks)*fs.Bsize/defaultDiskShare)
}

// scan finds what earlier processes left.
func (s *Store) scan() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read the folder of outputs: %w", err)
	}
	found := map[name]*kept{}
	for _, e := range entries {
		n, ok := parseFile(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			s.cfg.Logger.Warn("the folder of outputs holds something else, left alone", "file", filepath.Join(s.cfg.Dir, e.Name()))
			continue
		}
		k := found[n]
		if k == nil {
			k = &kept{name: n}
			found[n] = k
		}
		k.bytes += info.Size()
		if info.ModTime().After(k.at) {
			k.at = info.ModTime()
		}
	}
	all := make([]*kept, 0, len(found))
	for _, k := range found {
		all = append(all, k)
		s.bytes += k.bytes
	}
	slices.SortFunc(all, func(a, b *kept) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.task, b.task), cmp.Compare(a.attempt, b.attempt))
	})
	for _, k := range all {
		s.byName[k.name] = s.finished.PushBack(k)
	}
	return nil
}

// Create makes the place for one attempt's output; see worker.Outputs.
func (s *Store) Create(task fsm.TaskID, attempt uint32, limit int64) (worker.Output, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	n := name{task, attempt}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.live[n] != nil || s.byName[n] != nil:
		return nil, fmt.Errorf("output of %s, attempt %d, exists already", task, attempt)
	}
	r := &recorder{store: s, name: n, limit: limit, more: make(chan struct{})}
	s.live[n] = r
	return r, nil
}

// Sweep forgets the oldest finished outputs that are over the bounds. It runs
// by itself whenever an attempt ends; call it now and then for the age.
func (s *Store) Sweep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(0)
}

// sweep makes room for more bytes; the caller holds mu.
func (s *Store) sweep(more int64) {
	for e := s.finished.Front(); e != nil; e = s.finished.Front() {
		k := e.Value.(*kept)
		over := s.bytes+more > s.cfg.MaxBytes || s.finished.Len() > s.cfg.MaxAttempts
		if !over && s.cfg.Now().Sub(k.at) <= s.cfg.MaxAge {
			return
		}
		for _, stream := range []Stream{Stdout, Stderr} {
			path := filepath.Join(s.cfg.Dir, k.file(stream))
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				s.cfg.Logger.Warn("could not remove an old output, its bytes are no longer counted", "file", path, "error", err)
			}
		}
		s.bytes -= k.bytes
		s.finished.Remove(e)
		delete(s.byName, k.name)
	}
}

// reserve counts bytes that are about to be written; false = no room.
func (s *Store) reserve(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+n > s.cfg.MaxBytes {
		s.sweep(n)
	}
	if s.bytes+n > s.cfg.MaxBytes {
		return false
	}
	s.bytes += n
	return true
}

// done moves an attempt from the live to the finished ones.
func (s *Store) done(r *recorder, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, r.name)
	if bytes > 0 {
		s.byName[r.name] = s.finished.PushBack(&kept{name: r.name, at: s.cfg.Now(), bytes: bytes})
	}
	s.sweep(0)
}

// Bytes is what the folder holds.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

// Close ends what is still being written. Readers of finished outputs go on.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	live := make([]*recorder, 0, len(s.live))
	for _, r := range s.live {
		live = append(live, r)
	}
	s.mu.Unlock()
	for _, r := range live {
		r.Finish()
	}
	return nil
}
