package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"time"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

// fastSession is one client's session. Three parties share it: the reader
// (ServeFast's caller) reads requests and proposes them, whoever calls the
// backend's callbacks leaves answers, and the writer sends them. mu guards
// what they share and is a leaf lock: nothing else is called under it.
//
// The naive session answers each request from its callback: one write and one
// packet per answer, and a client that does not read holds up the commits of
// everybody. Here a callback only appends to out, and the writer takes all
// that has gathered while its last write was under way.
type fastSession struct {
	s          *server
	conn       FastConn
	source     string
	credential http.Request // holds the token, for Authenticator
	end        context.CancelCauseFunc
	kick       chan struct{} // out is not empty

	// The reader's.
	in        fastReader
	principal string
	role      fsm.Role

	mu         sync.Mutex
	room       *sync.Cond // unanswered has fallen, or the session is over
	over       bool
	unanswered int // requests that were read and whose answers were not written
	bytes      int // of these requests
	out        []byte
	outCount   int // answers in out
	outBytes   int // size of their requests
	heard      time.Time
}

func newFastSession(s *server, conn FastConn, source string) *fastSession {
	f := &fastSession{
		s: s, conn: conn, source: source, kick: make(chan struct{}, 1), in: fastReader{r: conn, most: maxHello},
		credential: http.Request{Header: http.Header{}, RemoteAddr: source}, heard: s.cfg.Now(),
	}
	f.room = sync.NewCond(&f.mu)
	return f
}

// serve runs an authenticated session to its end.
func (f *fastSession) serve(ctx context.Context) error {
	ctx, f.end = context.WithCancelCause(ctx)
	defer f.end(context.Canceled) // of a panic: the writer must not stay
	cut := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(cut)
		f.mu.Lock()
		f.over = true
		f.mu.Unlock()
		f.room.Broadcast()
		past := time.Unix(1, 0)
		_ = f.conn.SetReadDeadline(past) // ends a read that is under way; of a broken stream, nothing is
		_ = f.conn.SetWriteDeadline(past)
	})
	var writer sync.WaitGroup
	var sent bool // every write was whole
	writer.Go(func() { sent = f.write(ctx) })
	err := f.read(ctx)
	var p *problem
	if errors.Is(err, io.EOF) || errors.As(err, &p) {
		f.drain() // what was asked for before is still answered
	}
	f.end(err)
	writer.Wait()
	<-cut // it must not undo the deadline of the last words
	err = context.Cause(ctx)
	if sent && errors.As(err, &p) {
		f.part(p)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("api: a client's session ended: %w", err)
}

// read takes requests until something ends. io.EOF is the client's wish.
func (f *fastSession) read(ctx context.Context) error {
	var group []fastRequest
	for {
		frame, err := f.in.next()
		group = group[:0]
		for size := 0; err == nil && frame != nil; {
			group = grow(group)
			if err = group[len(group)-1].decode(frame); err != nil {
				group = group[:len(group)-1]
				break
			}
			if size += len(frame); len(group) == groupLines || size > groupBytes {
				break
			}
			frame, err = f.in.take()
		}
		if len(group) > 0 { // what came before a fault is served
			if !f.claim(group) {
				return context.Cause(ctx)
			}
			if err := f.run(ctx, group); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, frames.ErrMessage), errors.Is(err, frames.ErrTooLarge):
			return newProblem(client.CodeInvalid, "the session was ended: %s", err)
		case err != nil:
			return err
		}
	}
}

// claim waits until the group may be under way. A client that keeps to what it
// was welcomed with hardly waits; another is held back.
func (f *fastSession) claim(group []fastRequest) bool {
	size := 0
	for i := range group {
		size += group[i].size
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.over && f.unanswered > 0 && (f.unanswered+len(group) > f.s.limits.FastInFlight || f.bytes+size > f.s.limits.StreamBytes) {
		f.room.Wait()
	}
	f.unanswered += len(group)
	f.bytes += size
	f.heard = f.s.cfg.Now()
	return !f.over
}

// drain waits until everything is answered.
func (f *fastSession) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.over && f.unanswered > 0 {
		f.room.Wait()
	}
}

// answer leaves an answer to a request of some size.
func (f *fastSession) answer(a *frames.Answer, size int) {
	f.mu.Lock()
	f.out = appendAnswer(f.out, a)
	f.outCount++
	f.outBytes += size
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// write sends answers until the session is over, and tells whether no frame
// was cut.
func (f *fastSession) write(ctx context.Context) bool {
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	var buf []byte
	for {
		select {
		case <-ctx.Done():
			return true
		case <-tick.C:
			if err := f.stillWelcome(); err != nil {
				f.end(err)
				return true
			}
			continue
		case <-f.kick:
		}
		// The callbacks of one entry come one after the other: this lets the
		// first one's goroutine leave the others too.
		runtime.Gosched()
		f.mu.Lock()
		buf, f.out = f.out, buf[:0]
		count, size := f.outCount, f.outBytes
		f.outCount, f.outBytes = 0, 0
		f.mu.Unlock()
		if len(buf) == 0 {
			continue
		}
		_ = f.conn.SetWriteDeadline(f.s.cfg.Now().Add(f.s.limits.WriteTimeout)) // a broken stream fails the write too
		if ctx.Err() != nil {
			return true // or the deadline would undo the one that ends the session
		}
		if _, err := f.conn.Write(buf); err != nil {
			f.end(fmt.Errorf("write answers: %w", err))
			return false
		}
		f.mu.Lock()
		f.unanswered -= count
		f.bytes -= size
		f.mu.Unlock()
		f.room.Broadcast()
		if cap(buf) > fastKept {
			buf = nil
		}
	}
}

// stillWelcome ends the sessions of tokens that are no longer good, and those
// that nobody uses.
func (f *fastSession) stillWelcome() error {
	if _, _, p := f.authenticate(); p != nil {
		return p
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unanswered == 0 && f.s.cfg.Now().Sub(f.heard) > f.s.limits.StreamIdle {
		return newProblem(client.CodeUnavailable, "nothing was asked for %v: connect again when there is something", f.s.limits.StreamIdle)
	}
	return nil
}

// part says why the session ends: an answer for request 0, which no client
// sends.
func (f *fastSession) part(p *problem) {
	f.mu.Lock()
	out := appendAnswer(f.out, &frames.Answer{Code: frames.CodeOf(p.code()), Detail: detailOf(p), RetryAfterMS: retryMillis(p)})
	f.out = nil
	f.mu.Unlock()
	_ = f.conn.SetWriteDeadline(f.s.cfg.Now().Add(partingTimeout))
	_, _ = f.conn.Write(out) // the client may be gone
}
