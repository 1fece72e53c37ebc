package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config of a Log. Zero values take the defaults.
type Config struct {
	Dir      string        // made if it does not exist, mode 0700
	Key      []byte        // for the hashes; empty: anyone can compute them
	MaxBytes int64         // of one file; default 64 MiB
	MaxFiles int           // older ones are deleted; 0 = all are kept
	Slots    int           // records on their way at a time; default 8192
	Sync     time.Duration // between fsyncs; default 200 ms
	Retry    time.Duration // after a failed write; default 1 s
	Now      func() time.Time
	// OnError is told when writing begins to fail (and may log it).
	OnError func(error)

	wrap func(handle) handle // for tests
}

// The ways in which Begin refuses.
var (
	ErrFailed = errors.New("the audit log cannot be written")
	ErrClosed = errors.New("the audit log is closed")
)

// Log is the audit log of one node. All methods are safe for concurrent use.
type Log struct {
	cfg   Config
	slots chan struct{} // one token per record on its way
	queue chan Record   // as long as slots: a send never blocks
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	failed error
	latch  bool // failed for good: a sync failed
	missed uint64
	closed bool
	head   Head

	w writer // the writer goroutine's
}

// Open opens or starts the chain in a folder.
func Open(cfg Config) (*Log, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&cfg.Sync, 200*time.Millisecond)
	def(&cfg.Retry, time.Second)
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.Slots <= 0 {
		cfg.Slots = 8192
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	if cfg.wrap == nil {
		cfg.wrap = func(h handle) handle { return h }
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the audit folder: %w", err)
	}
	l := &Log{
		cfg: cfg, slots: make(chan struct{}, cfg.Slots), queue: make(chan Record, cfg.Slots),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.w = writer{cfg: &l.cfg, mac: newMAC(cfg.Key)}
	if err := l.w.open(); err != nil {
		return nil, err
	}
	l.head = l.w.head
	go l.run()
	return l, nil
}

// Begin claims room for one record; End must follow. It blocks while there is
// none, and fails with ErrFailed, ErrClosed or ctx's error.
func (l *Log) Begin(ctx context.Context) error {
	if err := l.err(); err != nil {
		return err
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-l.stop:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for room in the audit log: %w", ctx.Err())
	}
}

func (l *Log) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.failed != nil:
		return fmt.Errorf("%w: %w", ErrFailed, l.failed)
	}
	return nil
}

// End records the outcome of a mutation that Begin made room for.
func (l *Log) End(principal, source, action, target, outcome string) {
	l.queue <- Record{Time: l.cfg.Now(), Principal: principal, Source: source, Action: action, Target: target, Outcome: outcome}
}

// Note records a refusal, or counts it if there is no room.
func (l *Log) Note(principal, source, action, target, outcome string) {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if !closed {
		select {
		case l.slots <- struct{}{}:
			l.End(principal, source, action, target, outcome)
			return
		default:
		}
	}
	l.mu.Lock()
	l.missed++
	l.mu.Unlock()
}

// Head is the end of what was written.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Close writes and syncs what was recorded and ends the chain's file. Claims
// of Begin whose End has not come yet are waited for until ctx ends.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	// Every slot taken by us means that no record is on its way.
	var waitErr error
	for range cap(l.slots) {
		select {
		case l.slots <- struct{}{}:
			continue
		case <-ctx.Done():
			waitErr = fmt.Errorf("close the audit log: records are on their way: %w", ctx.Err())
		}
		break
	}
	close(l.stop)
	<-l.done
	return errors.Join(waitErr, l.w.close())
}

// run is the writer's goroutine.
func (l *Log) run() {
	defer close(l.done)
	var held []Record // not written yet
	written := 0      // since the last sync
	retrying := false // the last write failed: the next one is the timer's
	var timer *time.Timer
	var tick <-chan time.Time
	arm := func(d time.Duration) {
		if tick == nil {
			timer = time.NewTimer(d)
			tick = timer.C
		}
	}
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		due := false
		select {
		case r := <-l.queue:
			held = l.gather(append(held, r))
		case <-tick:
			tick, due = nil, true
		case <-l.stop:
			held = l.gather(held)
			l.write(held)
			return
		}
		if len(held) > 0 && retrying && !due {
			continue // the retry is armed; the queue's room bounds what is held
		}
		n := l.write(held)
		written += n
		held = append(held[:0], held[n:]...)
		if retrying = len(held) > 0; retrying {
			arm(l.cfg.Retry)
			continue
		}
		if due && written > 0 {
			if err := l.w.sync(); err != nil {
				// The kernel may have dropped what it could not write, and
				// would then call the next sync a success.
				l.mu.Lock()
				l.latch = true
				l.mu.Unlock()
				l.fail(err)
			}
			written = 0
		}
		l.recovered()
		if written > 0 {
			arm(l.cfg.Sync)
		}
	}
}

func (l *Log) gather(held []Record) []Record {
	for {
		select {
		case r := <-l.queue:
			held = append(held, r)
		default:
			return held
		}
	}
}

// write writes records in order and frees their slots; it returns how many it
// wrote before the first failure.
func (l *Log) write(held []Record) int {
	l.mu.Lock()
	missed := l.missed
	l.mu.Unlock()
	if missed > 0 {
		r := Record{Time: l.cfg.Now(), Action: "audit.missed", Target: fmt.Sprintf("%d refusals found no room", missed), Outcome: "ok"}
		if err := l.w.write([]Record{r}); err != nil {
			l.fail(err)
			return 0
		}
		l.mu.Lock()
		l.missed -= missed
		l.mu.Unlock()
	}
	const chunk = 256 // records in one write call
	n := 0
	for n < len(held) {
		part := held[n:min(n+chunk, len(held))]
		if err := l.w.write(part); err != nil {
			l.fail(err)
			break
		}
		n += len(part)
		for range part {
			<-l.slots
		}
	}
	l.mu.Lock()
	l.head = l.w.head
	l.mu.Unlock()
	return n
}

func (l *Log) fail(err error) {
	l.mu.Lock()
	first := l.failed == nil
	l.failed = err
	l.mu.Unlock()
	if first {
		l.cfg.OnError(err)
	}
}

func (l *Log) recovered() {
	l.mu.Lock()
	if !l.latch {
		l.failed = nil
	}
	l.mu.Unlock()
}

func pathOf(dir string, first uint64) string { return filepath.Join(dir, name(first)) }
