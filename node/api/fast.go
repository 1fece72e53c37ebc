package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"holdfast/client"
	"holdfast/client/frames"
	"holdfast/fsm"
)

const (
	// helloTimeout bounds the wait for a stranger's first message.
	helloTimeout = 5 * time.Second
	// maxHello bounds what a stranger can make a node hold.
	maxHello = 16 << 10
	// partingTimeout bounds the last words to a client that does not read.
	partingTimeout = time.Second
	// recheck is how long a token that was revoked keeps a silent session. A
	// session that asks for something is checked at once.
	recheck = time.Second
)

// FastConn is one stream of a client's connection. Deadlines of the past must
// end reads and writes that are under way. A net.Conn is one.
type FastConn interface {
	io.ReadWriter
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// ServeFast serves one client over the pipelined RPC of package frames, until
// the client or ctx ends it. It closes nothing: whoever made conn does, once
// the client has had time to read what was written last. Source is the
// client's address. The error says why the session ended, nil if the client
// wanted it.
func (s *Server) ServeFast(ctx context.Context, conn FastConn, source string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.metrics.panics.Inc()
			s.cfg.Logger.Error("a session of the RPC panicked", "source", source, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("api: the session panicked; the log has it")
		}
	}()
	var p *problem
	if s.long.enter() {
		defer s.long.leave()
	} else {
		p = newProblem(client.CodeOverloaded, "this node has %d long requests in hand: try another node", s.limits.LongInFlight)
	}
	f := newFastSession(s.server, conn, source)
	if err := f.greet(p); err != nil {
		return err
	}
	return f.serve(ctx)
}

// greet reads the hello and answers it, with p if that is set. The session is
// authenticated, or the error says why not.
func (f *fastSession) greet(p *problem) error {
	s := f.s
	_ = f.conn.SetReadDeadline(s.cfg.Now().Add(helloTimeout)) // a broken stream fails the read too
	var h frames.Hello
	frame, err := f.in.next()
	if err == nil {
		err = decodeFrame(frame, &h)
	}
	if err == nil && h.Version == 0 {
		err = fmt.Errorf("%w: it has no version", frames.ErrMessage)
	}
	if err != nil {
		return fmt.Errorf("api: read a client's hello: %w", errors.Join(err, welcome(s, f.conn, newProblem(client.CodeInvalid, "the hello cannot be read"))))
	}
	_ = f.conn.SetReadDeadline(time.Time{})
	f.in.most = frames.MaxFrame
	f.credential.Header.Set("Authorization", "Bearer "+h.Token)
	if p == nil {
		f.principal, f.role, p = f.authenticate()
	}
	if p != nil {
		return welcome(s, f.conn, p)
	}
	return welcome(s, f.conn, f.check(s.fastOps[:]...))
}

// welcome answers a hello; a problem refuses, and is the error.
func welcome(s *server, conn FastConn, p *problem) error {
	w := frames.Welcome{InFlight: uint32(s.limits.FastInFlight), Index: s.cfg.Backend.State().Index()}
	if p != nil {
		w = frames.Welcome{Code: frames.CodeOf(p.code()), Detail: detailOf(p)}
	}
	b, err := frames.Append(nil, w)
	if err != nil {
		return fmt.Errorf("api: encode a welcome: %w", err)
	}
	_ = conn.SetWriteDeadline(s.cfg.Now().Add(partingTimeout)) // a broken stream fails the write too
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("api: welcome a client: %w", err)
	}
	if p != nil {
		return fmt.Errorf("api: refuse a client: %w", p)
	}
	return nil
}

// authenticate finds the session's principal and role, anew each time: a token
// can be revoked, and can expire.
func (f *fastSession) authenticate() (principal string, role fsm.Role, p *problem) {
	principal, role, err := f.s.cfg.Authenticator.Authenticate(&f.credential)
	if err == nil {
		return principal, role, nil
	}
	p, note := authProblem(err)
	if note {
		f.s.cfg.Audit.Note("", f.source, "rpc", "", p.code())
	}
	return "", 0, p
}

// check asks the policy for any of the operations.
func (f *fastSession) check(ops ...*fastOp) *problem {
	for _, op := range ops {
		if allowed, _ := f.s.cfg.Policy.Decide(op.id, f.role); allowed {
			return nil
		}
	}
	op := ops[0].id
	f.s.cfg.Audit.Note(f.principal, f.source, op, "rpc", client.CodeForbidden)
	return newProblem(client.CodeForbidden, "the role of %s does not allow %s: ask an admin for a token with a higher role", f.principal, op)
}

// fastOp is an operation of the HTTP API as the RPC offers it: the policy, the
// audit and request IDs know it by the same name.
type fastOp struct {
	id      string
	metrics *opMetrics
}

// detailOf is a problem as one line of bounded length.
func detailOf(p *problem) string {
	detail := p.Detail
	for i, e := range p.Errors {
		if i == 0 {
			detail = ""
		} else {
			detail += "; "
		}
		detail += e.Location + ": " + e.Message
	}
	return strings.ToValidUTF8(detail[:min(len(detail), maxFastDetail)], "?")
}

// maxFastDetail bounds an answer, and so what a session's answers hold.
const maxFastDetail = 1 << 10

// retryMillis is when a refused request should be tried again.
func retryMillis(p *problem) uint32 {
	switch {
	case p.Status != http.StatusTooManyRequests && p.Status != http.StatusServiceUnavailable:
		return 0
	case p.retryAfter > 0:
		return uint32(min(p.retryAfter, time.Minute)/time.Millisecond) + 1
	case p.code() == client.CodeQueueFull:
		return 1000 // a queue empties at the pace of tasks
	}
	return 100 // an overload or an election at the pace of commits
}
