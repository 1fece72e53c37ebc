package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/semaphore"

	"holdfast/client/frames"
)

const (
	// fastIdle and fastKeepAlive find a node that is gone without a word:
	// QUIC itself gives requests in flight no error.
	fastIdle      = 2 * time.Second
	fastKeepAlive = 500 * time.Millisecond
	// maxUnsent bounds the bytes that wait for the connection; it holds two
	// frames of the largest size.
	maxUnsent = 2 * (frames.MaxFrame + 4)
	// gathered bytes fill some 20 packets: more in one write saves nothing.
	gathered = 32 << 10
	// maxInFlight bounds unanswered requests whatever a node offers.
	maxInFlight = 16384
)

// fastSession is one authenticated connection. A writer goroutine owns the
// stream's sending side, a reader goroutine its receiving side and the
// delivery of answers; a timer tells calls that are late. ctx ends with either
// goroutine, and with the connection. mu guards what callers share with them.
type fastSession struct {
	conn   *quic.Conn
	stream *quic.Stream
	ctx    context.Context
	end    context.CancelCauseFunc
	room   chan struct{} // one token per unanswered request
	bytes  *semaphore.Weighted
	kick   chan struct{}  // out is not empty
	in     *frames.Reader // the reader goroutine's
	number atomic.Uint64

	patience time.Duration // of a call

	mu      sync.Mutex
	over    bool
	out     []byte
	pending map[uint64]*fastCall // nil: its caller was told that it is late
	late    *time.Timer          // nil before the first call
	lateAt  time.Time            // when it fires; zero: never
}

// dialFast connects to addr and authenticates. ctx ends the session too.
func dialFast(ctx context.Context, addr string, tc *tls.Config, cfg Config, work *sync.WaitGroup) (*fastSession, error) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := quic.DialAddr(dctx, addr, tc.Clone(), &quic.Config{
		HandshakeIdleTimeout: dialTimeout, MaxIdleTimeout: fastIdle, KeepAlivePeriod: fastKeepAlive,
		MaxIncomingStreams: -1, MaxIncomingUniStreams: -1, // a node opens none
	})
	if err != nil {
		return nil, err
	}
	s, err := newFastSession(dctx, ctx, conn, cfg)
	if err != nil {
		_ = conn.CloseWithError(0, "") // the first error is the one to tell
		return nil, err
	}
	work.Go(s.write)
	work.Go(s.read)
	return s, nil
}

func newFastSession(dctx, ctx context.Context, conn *quic.Conn, cfg Config) (*fastSession, error) {
	stream, err := conn.OpenStreamSync(dctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := dctx.Deadline()
	_ = stream.SetDeadline(deadline) // fails on a closed stream: the next call tells
	hello, err := frames.Append(nil, frames.Hello{Version: frames.Version, Token: cfg.Token, UserAgent: cfg.UserAgent})
	if err != nil {
		return nil, &permanentError{err}
	}
	if _, err := stream.Write(hello); err != nil {
		return nil, err
	}
	// The handshake's end proves nothing to us about the node's mind; its
	// welcome does.
	var w frames.Welcome
	in := frames.NewReader(stream)
	if err := in.Next(&w); err != nil {
		return nil, fmt.Errorf("read the node's welcome: %w", err)
	}
	if err := refusal(w.Code, w.Detail, 0); err != nil {
		return nil, err
	}
	_ = stream.SetDeadline(time.Time{})
	s := &fastSession{
		conn: conn, stream: stream, kick: make(chan struct{}, 1), pending: map[uint64]*fastCall{},
		room:  make(chan struct{}, max(1, min(int(w.InFlight), maxInFlight))),
		bytes: semaphore.NewWeighted(maxUnsent), patience: cfg.Timeout,
	}
	s.ctx, s.end = context.WithCancelCause(ctx)
	// A connection that ends must wake callers and the writer.
	context.AfterFunc(conn.Context(), func() { s.end(context.Cause(conn.Context())) })
	context.AfterFunc(s.ctx, func() {
		s.abandon()
		_ = conn.CloseWithError(0, "")
	})
	s.in = in
	return s, nil
}

// call sends one request and waits for its answer, until ctx or the deadline
// ends.
func (s *fastSession) call(ctx context.Context, req *frames.Request, deadline time.Time) (frames.Answer, error) {
	c := fastCalls.Get().(*fastCall)
	c.deadline = deadline
	req.Number = s.number.Add(1)
	var err error
	if c.frame, err = frames.AppendRequest(c.frame[:0], req); err != nil {
		c.put()
		return frames.Answer{}, &permanentError{err}
	}
	if err := s.send(ctx, req.Number, c); err != nil {
		c.put()
		return frames.Answer{}, err
	}
	// From here on the reader gives the room back, with the answer: a caller
	// that gives up does not make the node forget the request.
	select {
	case <-c.done:
		a, err := c.answer, c.err
		c.put()
		return a, err
	case <-ctx.Done():
		return frames.Answer{}, ctx.Err()
	}
}

// send queues a call's frame once there is room for it.
func (s *fastSession) send(ctx context.Context, number uint64, c *fastCall) error {
	n := int64(len(c.frame))
	select {
	case s.room <- struct{}{}:
	default:
		if err := s.wait(ctx, c.deadline, func(ctx context.Context) error {
			select {
			case s.room <- struct{}{}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}); err != nil {
			return err
		}
	}
	if !s.bytes.TryAcquire(n) {
		if err := s.wait(ctx, c.deadline, func(ctx context.Context) error { return s.bytes.Acquire(ctx, n) }); err != nil {
			<-s.room
			return err
		}
	}
	if err := s.add(number, c); err != nil {
		<-s.room
		return err
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

// wait runs f until ctx, the deadline or the session ends, and tells which.
func (s *fastSession) wait(ctx context.Context, deadline time.Time, f func(context.Context) error) error {
	wctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := f(wctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case s.ctx.Err() != nil:
		return s.ended()
	}
	return &lateError{s.patience}
}

func (s *fastSession) ended() error {
	return fmt.Errorf("the connection ended: %w", context.Cause(s.ctx))
}

// write sends what has gathered while the last write was under way.
func (s *fastSession) write() {
	var buf []byte
	for {
		select {
		case <-s.kick:
		case <-s.ctx.Done():
			return
		}
		s.gather()
		s.mu.Lock()
		buf, s.out = s.out, buf[:0]
		s.mu.Unlock()
		if _, err := s.stream.Write(buf); err != nil {
			s.end(err)
			return
		}
		s.bytes.Release(int64(len(buf)))
	}
}

// gather lets callers that are about to send do so. Answers come many to a
// packet and wake as many callers; the first of them to send again wakes the
// writer, which the scheduler then runs before the others: a packet, a system
// call, and the node's work for both, for each request. So the writer stands
// back until a turn brings nothing new. It waits for no clock, and a caller
// that is alone waits for nobody.
func (s *fastSession) gather() {
	for before := 0; ; runtime.Gosched() {
		s.mu.Lock()
		n, alone := len(s.out), len(s.pending) == 1
		s.mu.Unlock()
		if alone || n == before || n >= gathered {
			return
		}
		before = n
	}
}

// read delivers answers.
func (s *fastSession) read() {
	var a frames.Answer
	for {
		if err := s.in.NextAnswer(&a); err != nil {
			s.end(err)
			return
		}
		c, ok := s.take(a.Number)
		if !ok {
			s.end(errors.New("the node answered a request that was not sent"))
			return
		}
		if c != nil {
			c.answer = a
			c.done <- struct{}{} // has room: one outcome per call
		}
		<-s.room
	}
}
