package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"holdfast/client"
)

var (
	errGone    = errors.New("the caller is gone")
	errSilent  = errors.New("no line came for too long")
	errEndless = errors.New("a line went on and on")
)

// idleReader gives each read of a body its own deadline.
type idleReader struct {
	c    *call
	idle time.Duration
	now  func() time.Time
	till time.Time // of the last read
}

func (r *idleReader) Read(p []byte) (int, error) {
	r.till = r.now().Add(r.idle)
	_ = r.c.w.rc.SetReadDeadline(r.till) // HTTP/3 has its own idle timeout
	return r.c.r.Body.Read(p)
}

// silent tells a body that brought nothing from one whose reading was ended
// by the handler, which moves the deadline too.
func (r *idleReader) silent(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !r.now().Before(r.till)
}

// done takes the deadline away: at the body's end net/http goes on reading to
// see the caller leave, and a deadline would look like that.
func (r *idleReader) done() { _ = r.c.w.rc.SetReadDeadline(time.Time{}) }

// readLines puts the body's lines into the queue until its end or ctx's.
func (st *stream) readLines(ctx context.Context, number uint64) {
	defer close(st.lines)
	defer close(st.read) // first: whoever sees the end of lines must not think that Read goes on
	body := &idleReader{c: st.c, idle: st.s.limits.StreamIdle, now: st.s.cfg.Now}
	br := bufio.NewReaderSize(body, 64<<10)
	for ; ; number++ {
		raw, tooLong, err := readLine(br, int(st.s.limits.MaxSpecBody))
		if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 || tooLong {
			if !st.push(ctx, st.parse(number, trimmed, tooLong)) {
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			body.done()
			return
		case body.silent(err):
			st.ended = fmt.Errorf("%w (%s)", errSilent, st.s.limits.StreamIdle)
			return
		case errors.Is(err, errEndless):
			st.ended = err
			return
		default:
			st.ended = fmt.Errorf("%w: %w", errGone, err)
			return
		}
	}
}

// push waits for room, and reports whether there was any before ctx ended.
func (st *stream) push(ctx context.Context, l line) bool {
	if st.room.Acquire(ctx, int64(l.size)) != nil {
		return false
	}
	select {
	case st.lines <- l:
		return true
	case <-ctx.Done():
		return false
	}
}

func (st *stream) parse(number uint64, raw []byte, tooLong bool) line {
	l := line{number: number, size: len(raw)}
	if tooLong {
		l.problem = newProblem(client.CodeTooLarge, "the line is longer than %d bytes", st.s.limits.MaxSpecBody)
		return l
	}
	var spec client.TaskSpec
	if l.problem = decode(raw, &spec); l.problem == nil {
		l.sub, l.problem = submission(&spec, "body.")
	}
	return l
}

// readLine reads up to a newline or the end. Of a line that is longer than
// most it keeps nothing, and reads on to its end: up to a bound, because such
// a line costs the node and gives it nothing.
func readLine(r *bufio.Reader, most int) (raw []byte, tooLong bool, err error) {
	const endless = 16 << 20
	for skipped := 0; ; {
		part, err := r.ReadSlice('\n')
		if !tooLong && len(raw)+len(part) > most+1 { // the newline does not count
			tooLong, raw = true, nil
		}
		switch {
		case tooLong:
			if skipped += len(part); skipped > endless {
				return nil, true, errEndless
			}
		case raw == nil && err == nil:
			return part, false, nil // the usual case: nothing to copy, used before the next read
		default:
			raw = append(raw, part...)
		}
		if err == nil {
			return raw, tooLong, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return raw, tooLong, err
		}
	}
}
