package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"sync"
)

const (
	// streamWindow is how many lines may be unanswered. With the largest
	// specs, 64 KiB, it holds 64 MiB; with usual ones, 1 MiB, and covers
	// 20,000 lines/s at 50 ms.
	streamWindow = 1024
	// maxStreamLine bounds one answer line.
	maxStreamLine = 1 << 20

	// firstLineHeader is the number of the first line that a resumed stream
	// carries. The server makes a line's request ID of the Idempotency-Key
	// and the line's number, so a line that was sent twice takes effect once.
	firstLineHeader = "Holdfast-First-Line"
)

// SubmitStream submits every spec that comes through specs, as they come, and
// yields one answer per spec, as they become durable, in any order; Line
// counts specs from 1. A spec that is refused has its Problem in its answer
// and does not end the stream.
//
// When a connection breaks or the cluster is short of a leader or of room, the
// stream goes on at another node or a little later: unanswered specs are sent
// again under the same request IDs. At most 1024 specs are unanswered at a
// time. The iteration ends when specs is closed and everything is answered,
// or after it yielded an error; the caller then stops sending (select on its
// ctx as well, or cancel it when the loop ends).
func (c *Client) SubmitStream(ctx context.Context, specs <-chan TaskSpec, opts ...CallOption) iter.Seq2[*StreamAnswer, error] {
	return func(yield func(*StreamAnswer, error) bool) {
		h, err := writeHeader(opts)
		if err != nil {
			yield(nil, fmt.Errorf("submit a stream: %w", err))
			return
		}
		h.Set("Content-Type", "application/x-ndjson")
		s := &submission{c: c, header: h, specs: specs, changed: make(chan struct{}, 1)}
		for !s.finished() {
			before := s.answered
			err := c.try(ctx, "submit a stream", func(ctx context.Context, addr string) error {
				return s.attempt(ctx, addr, yield)
			})
			if s.stopped {
				return
			}
			// Progress refills the attempts: a long stream may outlive more
			// failures than a single call.
			if err != nil && (ctx.Err() != nil || s.answered == before || !temporary(err)) {
				yield(nil, err)
				return
			}
		}
	}
}

func temporary(err error) bool {
	var a *answerError
	if errors.As(err, &a) {
		return a.Retryable()
	}
	var p *permanentError
	return !errors.As(err, &p)
}

// submission is the state of one SubmitStream over all its attempts. The
// caller's goroutine owns answered and stopped and starts one writer goroutine
// per attempt, which ends before the attempt does; mu guards what both touch.
type submission struct {
	c        *Client
	header   http.Header
	specs    <-chan TaskSpec
	changed  chan struct{} // a line was answered: room for the writer
	answered int
	stopped  bool // the caller broke out of its loop

	mu     sync.Mutex
	first  int // number of lines[0], minus one
	lines  []streamLine
	closed bool // specs is closed: no more lines
}

type streamLine struct {
	text []byte // JSON and a newline
	done bool   // answered
}

func (s *submission) finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped || s.closed && len(s.lines) == 0
}

// attempt runs the stream at one address, from the first unanswered line on.
func (s *submission) attempt(ctx context.Context, addr string, yield func(*StreamAnswer, error) bool) error {
	if s.stopped || s.finished() {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	base := s.first
	s.mu.Unlock()
	h := s.header.Clone()
	if base > 0 {
		h.Set(firstLineHeader, strconv.Itoa(base+1))
	}
	pr, pw := io.Pipe()
	var wg sync.WaitGroup
	var encodeErr error // read after wg.Wait
	wg.Go(func() {
		encodeErr = s.write(ctx, pw, base)
		_ = pw.CloseWithError(encodeErr) // nil is a clean end
	})
	defer wg.Wait()
	defer cancel()
	defer pr.Close()

	resp, err := s.c.open(ctx, addr, request{method: http.MethodPost, path: "/v1/tasks/stream", header: h, body: pr, length: -1})
	if err == nil {
		err = s.read(resp.Body, yield)
		resp.Body.Close()
	}
	pr.Close()
	cancel()
	wg.Wait()
	var p *permanentError
	if errors.As(encodeErr, &p) {
		return encodeErr
	}
	if err == nil && !s.finished() {
		return errors.New("the node ended the stream before every line was answered")
	}
	return err
}

// write sends the lines from number base+1 on, then new ones as they come.
func (s *submission) write(ctx context.Context, w io.Writer, base int) error {
	for next := base; ; next++ {
		line, err := s.line(ctx, next)
		if line == nil || err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
}

// line returns the line number next+1, waiting for room and for a spec; nil
// after the last.
func (s *submission) line(ctx context.Context, next int) ([]byte, error) {
	for {
		s.mu.Lock()
		// Answers may have passed next only by a server's fault; the state
		// is right anyway: what is answered needs no sending.
		have, closed, full := max(0, next-s.first), s.closed, len(s.lines) >= streamWindow
		if have < len(s.lines) {
			text := s.lines[have].text
			s.mu.Unlock()
			return text, nil
		}
		s.mu.Unlock()
		if closed {
			return nil, nil
		}
		specs := s.specs
		if full {
			specs = nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.changed:
		case spec, ok := <-specs:
			if !ok {
				s.mu.Lock()
				s.closed = true
				s.mu.Unlock()
				return nil, nil
			}
			text, err := json.Marshal(spec)
			if err != nil {
				return nil, &permanentError{fmt.Errorf("encode line %d: %w", next+1, err)}
			}
			s.mu.Lock()
			s.lines = append(s.lines, streamLine{text: append(text, '\n')})
			s.mu.Unlock()
		}
	}
}

// read yields the answers. A line that was refused for load or for want of a
// leader ends the attempt, so that it is sent again after a pause.
func (s *submission) read(body io.Reader, yield func(*StreamAnswer, error) bool) error {
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 0, 64<<10), maxStreamLine)
	sc.Split(wholeLines)
	for sc.Scan() {
		if len(sc.Bytes()) == 0 {
			continue
		}
		a := &StreamAnswer{}
		if err := json.Unmarshal(sc.Bytes(), a); err != nil {
			return &permanentError{fmt.Errorf("decode an answer line: %w", err)}
		}
		if a.Line == 0 && a.Problem != nil {
			return &answerError{Problem: a.Problem} // of the stream itself
		}
		if a.Problem != nil && a.Problem.Retryable() {
			return &answerError{Problem: a.Problem}
		}
		fresh, err := s.mark(a.Line)
		if err != nil {
			return err
		}
		if !fresh {
			continue // answered before the connection broke
		}
		s.answered++
		s.c.saw(a.Index)
		if !yield(a, nil) {
			s.stopped = true
			return nil
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read the answers: %w", err)
	}
	return nil
}

// wholeLines is bufio.ScanLines without the last line's special case: what a
// broken connection left of a line is no answer.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}

// mark notes that line n is answered and drops the answered head.
func (s *submission) mark(n int) (fresh bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := n - 1 - s.first
	if n < 1 || i >= len(s.lines) {
		return false, &permanentError{fmt.Errorf("the node answered line %d, which was not sent", n)}
	}
	if i < 0 || s.lines[i].done {
		return false, nil
	}
	s.lines[i].done = true
	for len(s.lines) > 0 && s.lines[0].done {
		s.lines[0].text = nil
		s.lines = s.lines[1:]
		s.first++
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return true, nil
}
