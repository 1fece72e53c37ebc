package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// flushEvery bounds what a killed tester loses of its history.
const flushEvery = 200 * time.Millisecond

// Clock is the run's clock: monotonic, zero at the start.
type Clock func() time.Duration

// Since is the clock of a run that started at a time with a monotonic reading.
func Since(start time.Time) Clock {
	return func() time.Duration { return time.Since(start) }
}

// Writer appends events to a history. It is safe for concurrent use.
type Writer struct {
	now Clock
	ids atomic.Int64

	mu      sync.Mutex
	watch   func(*Event) // may be nil
	file    io.Closer    // nil if not ours
	buf     *bufio.Writer
	enc     *json.Encoder
	flushed time.Duration
	err     error // of the first write that failed; sticky
	count   int64
}

// NewWriter writes to w.
func NewWriter(w io.Writer, now Clock) *Writer {
	buf := bufio.NewWriterSize(w, 64<<10)
	return &Writer{now: now, buf: buf, enc: json.NewEncoder(buf)}
}

// Create makes the history of a run's folder, which must not have one yet.
func Create(dir string, now Clock) (*Writer, error) {
	f, err := os.OpenFile(filepath.Join(dir, EventsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin a history: %w", err)
	}
	w := NewWriter(f, now)
	w.file = f
	return w, nil
}

// Watch has f see every later event as it is added. It is called under the
// writer's lock: it must be quick and add nothing.
func (w *Writer) Watch(f func(*Event)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = f
}

// NextID gives an ID for an operation or a fault.
func (w *Writer) NextID() int64 { return w.ids.Add(1) }

// Now is the run's clock.
func (w *Writer) Now() time.Duration { return w.now() }

// Add stamps an event with the time and appends it, and returns that time. A
// write that fails is told by Err, Flush and Close.
func (w *Writer) Add(e Event) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now() // under the lock: the file is in order of time
	e.At = int64(now)
	w.put(&e)
	if w.watch != nil {
		w.watch(&e)
	}
	if now-w.flushed >= flushEvery {
		w.flushed = now
		w.flush()
	}
	return now
}

func (w *Writer) put(e *Event) {
	if w.err != nil {
		return
	}
	if w.err = w.enc.Encode(e); w.err == nil {
		w.count++
	}
}

func (w *Writer) flush() {
	if w.err == nil {
		w.err = w.buf.Flush()
	}
}

// Count is how many events were added.
func (w *Writer) Count() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Flush hands every event to the file.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.failure()
}

// Close flushes and closes the history.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	if w.file == nil {
		return w.failure()
	}
	err := errors.Join(w.failure(), w.file.Close())
	w.file = nil
	return err
}

func (w *Writer) failure() error {
	if w.err == nil {
		return nil
	}
	return fmt.Errorf("write the history: %w", w.err)
}
