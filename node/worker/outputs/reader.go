package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast/consensus/storage"
	"holdfast/fsm"
)

// DamageError says which file does not hold what was written to it.
type DamageError struct {
	File string
	Err  error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("output file %s is damaged: %v; the rest of it cannot be read", e.File, e.Err)
}
func (e *DamageError) Unwrap() error { return e.Err }

// Reader reads one stream of one attempt. It belongs to one goroutine.
type Reader struct {
	ctx    context.Context
	store  *Store
	name   name
	stream Stream
	offset int64
	follow bool

	file *os.File
	seal *storage.SealFollower
}

// Read opens a stream at an offset in bytes. With follow it waits for what a
// running attempt will write, until that ends or ctx does; without, it ends
// where the output ends now. The error is ErrNotFound when nothing is kept.
func (s *Store) Read(ctx context.Context, task fsm.TaskID, attempt uint32, stream Stream, offset int64, follow bool) (*Reader, error) {
	if offset < 0 {
		return nil, fmt.Errorf("output of %s: offset %d is negative", task, offset)
	}
	r := &Reader{ctx: ctx, store: s, name: name{task, attempt}, stream: stream, offset: offset, follow: follow}
	s.mu.Lock()
	_, done := s.byName[r.name]
	_, live := s.live[r.name]
	s.mu.Unlock()
	if !done && !live {
		return nil, fmt.Errorf("%w: %s, attempt %d", ErrNotFound, task, attempt)
	}
	return r, nil
}

// Read fills p as far as what is there goes. io.EOF is the end of a complete
// output, or of what is there when nobody follows; ErrCutShort the end of one
// that a crash interrupted; *DamageError says that a file was changed.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		// In this order: what was flushed before the end was announced is
		// found by the read that follows.
		more, live := r.live()
		n, err := r.readNow(p)
		switch {
		case n > 0:
			r.offset += int64(n)
			return n, nil
		case !errors.Is(err, storage.ErrNotYet):
			return 0, err
		case !live && r.seal == nil:
			return 0, io.EOF // a stream without a byte has no file
		case !live:
			return 0, ErrCutShort
		case !r.follow:
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// live reports whether the attempt is still being written, and the channel
// that says "more" then.
func (r *Reader) live() (<-chan struct{}, bool) {
	r.store.mu.Lock()
	rec := r.store.live[r.name]
	r.store.mu.Unlock()
	if rec == nil {
		return nil, false
	}
	more := rec.state()
	return more, more != nil
}

func (r *Reader) readNow(p []byte) (int, error) {
	if r.seal == nil {
		base := r.name.file(r.stream)
		f, err := os.Open(filepath.Join(r.store.cfg.Dir, base))
		if errors.Is(err, os.ErrNotExist) {
			return 0, storage.ErrNotYet
		}
		if err != nil {
			return 0, fmt.Errorf("open output: %w", err)
		}
		r.file, r.seal = f, storage.NewSealFollower(f, r.store.cfg.Key, base)
	}
	n, err := r.seal.ReadAt(p, r.offset)
	if err != nil && (errors.Is(err, storage.ErrDamaged) || errors.Is(err, storage.ErrTruncated)) {
		err = &DamageError{File: r.file.Name(), Err: err}
	}
	return n, err
}

// Close releases the file.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
