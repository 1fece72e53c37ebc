package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/transport/pki"

	"github.com/quic-go/quic-go"
)

// greeting is the first byte of the accepting side on a connection of a mutual
// class: "your certificate is accepted". Its value is the version of the
// greeting; a dialler accepts any, so that a later release can say more.
const greeting = 1

// kindTimeout bounds the wait for a stream's kind byte: the stream became
// visible with that very byte, so it is already here.
const kindTimeout = 5 * time.Second

// admit is quic-go's ConnContext: it runs before any cryptography.
func (m *Mux) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	t, err := m.gate.enter(info.RemoteAddr)
	if err != nil {
		m.cfg.Logger.Debug("connection refused", "source", info.RemoteAddr, "error", err)
		return nil, err
	}
	if !m.track() {
		t.leave()
		return nil, ErrClosed
	}
	context.AfterFunc(ctx, func() {
		defer m.wg.Done()
		t.leave()
	})
	return context.WithValue(ctx, ticketKey{}, t), nil
}

// accept runs until the listener closes.
func (m *Mux) accept(ln *quic.Listener) {
	defer m.wg.Done()
	defer close(m.done)
	for {
		q, err := ln.Accept(m.ctx)
		if err != nil {
			if m.ctx.Err() == nil {
				m.failure = fmt.Errorf("transport: the socket %s failed: %w", m.Addr(), err)
				m.cfg.Logger.Error("no longer serving", "error", m.failure)
			}
			return
		}
		if !m.track() {
			_ = q.CloseWithError(codeShutdown, "shutting down")
			return
		}
		go func() {
			defer m.wg.Done()
			m.serve(q)
		}()
	}
}

// serve runs one accepted connection to its end.
func (m *Mux) serve(q *quic.Conn) {
	cs := q.ConnectionState().TLS
	class, known := classOf(cs.NegotiatedProtocol)
	h := m.handlers[class]
	if !known || h == nil { // crypto/tls has refused it before
		_ = q.CloseWithError(codeNormal, "no such protocol")
		return
	}
	c := &Conn{q: q, class: class}
	if class.Mutual() {
		var err error
		if c.cluster, c.peer, err = pki.Identity(cs); err != nil { // verified in the handshake
			_ = q.CloseWithError(codeRevoked, "no identity")
			return
		}
	}
	err := m.enlist(c)
	if err != nil {
		m.cfg.Logger.Warn("connection refused", "class", class.String(), "peer", c.name(), "error", err)
		code := codeTooMany
		switch {
		case errors.Is(err, ErrRevoked):
			code = codeRevoked
		case errors.Is(err, ErrClosed):
			code = codeShutdown
		}
		c.end(code, "refused")
		return
	}
	h(q.Context(), c)
	c.end(codeNormal, "")
}

func (m *Mux) enlist(c *Conn) error {
	if t := ticketOf(c.q.Context()); t != nil {
		if err := t.established(c.class.Mutual()); err != nil {
			return err
		}
	}
	if err := m.register(c); err != nil {
		return err
	}
	if !c.class.Mutual() {
		return nil
	}
	m.known.Store(c.q, struct{}{})
	if !c.Alive() { // ended may have run before the Store
		m.known.Delete(c.q)
	}
	return greet(c.q)
}

func greet(q *quic.Conn) error {
	// The dialler allows several; this is the first, so it does not wait.
	s, err := q.OpenUniStream()
	if err != nil {
		return fmt.Errorf("transport: greet: %w", err)
	}
	if _, err := s.Write([]byte{greeting}); err != nil {
		return fmt.Errorf("transport: greet: %w", err)
	}
	// The dialler stops reading after the one byte; when it is faster than
	// this goroutine, Close complains of a cancelled stream.
	_ = s.Close()
	return nil
}

func awaitGreeting(ctx context.Context, q *quic.Conn) error {
	s, err := q.AcceptUniStream(ctx)
	if err != nil {
		return err
	}
	defer s.CancelRead(streamCancelled)
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetReadDeadline(d) // cannot fail on an open stream
	}
	var b [1]byte
	_, err = io.ReadFull(s, b[:])
	return err
}

// serveStreams is the Handler of a class with stream kinds.
func (m *Mux) serveStreams(ctx context.Context, c *Conn) {
	slots := make(chan struct{}, m.cfg.Limits.StreamHandlers)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s, err := c.AcceptStream(ctx)
		if err != nil {
			return
		}
		if !m.track() {
			return
		}
		go func() {
			defer m.wg.Done()
			defer func() { <-slots }()
			m.serveStream(ctx, s)
		}()
	}
}

func (m *Mux) serveStream(ctx context.Context, s *Stream) {
	var kind [1]byte
	_ = s.SetReadDeadline(time.Now().Add(kindTimeout)) // real time: deadlines of sockets are
	if _, err := io.ReadFull(s, kind[:]); err != nil {
		s.Abort()
		return
	}
	_ = s.SetReadDeadline(time.Time{})
	h := m.kinds[s.conn.class][kind[0]]
	if h == nil {
		m.cfg.Logger.Warn("stream of an unknown kind", "class", s.conn.class.String(), "peer", s.conn.name(), "kind", kind[0])
		s.Abort()
		return
	}
	h(ctx, s)
}
