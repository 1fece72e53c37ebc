package outputs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"holdfast/consensus/storage"
	"holdfast/node/worker"
)

// Stream is one of an attempt's two outputs.
type Stream uint8

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

// String is the stream's name in the API and in files.
func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// tailBytes is what a result carries of the output.
const tailBytes = 4 << 10

// recorder takes one attempt's output; it is a worker.Output.
type recorder struct {
	store *Store
	name  name
	limit int64

	mu        sync.Mutex
	streams   [2]*file // nil until the first byte
	kept      [2]int64 // plaintext bytes
	written   int64    // bytes on disk
	tail      ring
	truncated bool
	exceeded  func() // called once, when more comes than the limit; nil is nothing to call
	failed    bool   // the disk or the folder's bound, not the limit
	finished  bool
	flush     *time.Timer
	dirty     bool
	more      chan struct{} // closed and replaced when readers can see more
}

// file is one stream's file. It counts what really reaches the disk.
type file struct {
	*storage.SealWriter
	f *os.File
	r *recorder
}

func (w *file) writeThrough(p []byte) (int, error) {
	if !w.r.store.reserve(int64(len(p))) {
		return 0, fmt.Errorf("the folder of outputs is full (%d bytes)", w.r.store.cfg.MaxBytes)
	}
	n, err := w.f.Write(p)
	w.r.written += int64(len(p)) // as reserved: a part may be on disk
	return n, err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (r *recorder) Stdout() io.Writer {
	return writerFunc(func(p []byte) (int, error) { return r.write(Stdout, p) })
}

func (r *recorder) OnExceeded(call func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exceeded = call
}

func (r *recorder) Stderr() io.Writer {
	return writerFunc(func(p []byte) (int, error) { return r.write(Stderr, p) })
}

// write keeps what fits. It always claims to have taken everything.
func (r *recorder) write(stream Stream, p []byte) (int, error) {
	var exceeded func() // called without the lock: it may wait for others
	defer func() {
		if exceeded != nil {
			exceeded()
		}
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished || len(p) == 0 {
		return len(p), nil
	}
	r.tail.write(p)
	keep := p
	if room := r.limit - r.kept[Stdout] - r.kept[Stderr]; int64(len(keep)) > room {
		keep, r.truncated = keep[:room], true
		// The limit of a folder or a disk that is full is not the spec's.
		if !r.failed {
			exceeded, r.exceeded = r.exceeded, nil
		}
	}
	if len(keep) == 0 {
		return len(p), nil
	}
	w, err := r.open(stream)
	if err == nil {
		_, err = w.Write(keep)
	}
	if err != nil {
		r.fail(stream, err)
		return len(p), nil
	}
	r.kept[stream] += int64(len(keep))
	if !r.dirty {
		r.dirty = true
		if r.flush == nil {
			r.flush = time.AfterFunc(flushAfter, r.flushNow)
		} else {
			r.flush.Reset(flushAfter)
		}
	}
	return len(p), nil
}

// open returns a stream's file, and makes it at the first byte.
func (r *recorder) open(stream Stream) (*file, error) {
	if w := r.streams[stream]; w != nil {
		return w, nil
	}
	base := r.name.file(stream)
	f, err := os.OpenFile(filepath.Join(r.store.cfg.Dir, base), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w := &file{f: f, r: r}
	w.SealWriter, err = storage.NewSealWriter(writerFunc(w.writeThrough), r.store.cfg.Key, base)
	if err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	r.streams[stream] = w
	return w, nil
}

// fail gives up keeping an attempt's output: what is on disk stays, and the
// limit becomes what has been kept.
func (r *recorder) fail(stream Stream, err error) {
	if w := r.streams[stream]; w != nil {
		r.kept[stream] = w.Flushed()
	} else {
		r.kept[stream] = 0
	}
	r.truncated, r.limit = true, r.kept[Stdout]+r.kept[Stderr]
	if r.failed {
		return
	}
	r.failed = true
	r.store.cfg.Logger.Warn("output is truncated: it could not be written", "file", r.name.file(stream), "error", err)
}

// flushNow lets readers see what was written.
func (r *recorder) flushNow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return
	}
	r.dirty = false
	for stream, w := range r.streams {
		if w == nil {
			continue
		}
		if err := w.Flush(); err != nil {
			r.fail(Stream(stream), err)
		}
	}
	r.told()
}

// told wakes the readers that follow. The caller holds mu.
func (r *recorder) told() {
	close(r.more)
	r.more = make(chan struct{})
}

// Finish completes the files; see worker.Output.
func (r *recorder) Finish() worker.OutputSummary {
	r.mu.Lock()
	first := !r.finished
	if first {
		r.finished = true
		if r.flush != nil {
			r.flush.Stop()
		}
		for stream, w := range r.streams {
			if w == nil {
				continue
			}
			if err := w.SealWriter.Close(); err != nil {
				r.fail(Stream(stream), err)
			}
			if err := w.f.Close(); err != nil {
				r.fail(Stream(stream), err)
			}
		}
		r.told()
	}
	sum := worker.OutputSummary{StdoutBytes: r.kept[Stdout], StderrBytes: r.kept[Stderr], Tail: r.tail.bytes(), Truncated: r.truncated}
	written := r.written
	r.mu.Unlock()
	if first {
		r.store.done(r, written)
	}
	return sum
}

// state returns the channel that says "more", nil after the end.
func (r *recorder) state() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finished {
		return nil
	}
	return r.more
}

// ring keeps the last tailBytes bytes. It grows with what it holds.
type ring struct {
	buf  []byte
	next int // where the oldest byte is, once full
}

func (t *ring) write(p []byte) {
	if len(p) >= tailBytes {
		t.buf, t.next = append(t.buf[:0], p[len(p)-tailBytes:]...), 0
		return
	}
	if room := tailBytes - len(t.buf); room > 0 {
		n := min(room, len(p))
		t.buf = append(t.buf, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(t.buf[t.next:], p)
		p, t.next = p[n:], (t.next+n)%tailBytes
	}
}

func (t *ring) bytes() []byte {
	if len(t.buf) == 0 {
		return nil
	}
	out := make([]byte, 0, len(t.buf))
	return append(append(out, t.buf[t.next:]...), t.buf[:t.next]...)
}
