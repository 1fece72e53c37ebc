package transport

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Conn is one authenticated QUIC connection of one class. Safe for concurrent
// use. A connection from Dial is shared: close its streams, not it.
type Conn struct {
	q       *quic.Conn
	class   Class
	cluster string
	peer    string
	addr    string // as dialled; "" if accepted
	expires time.Time
	born    time.Time

	// Owned by the upkeep goroutine, under Mux.mu.
	retireAt time.Time
	closeAt  time.Time
	retiring bool
}

// Class returns what the connection carries.
func (c *Conn) Class() Class { return c.class }

// PeerNodeID returns the authenticated ID of the other node; "" for an
// accepted connection of a class without certificates.
func (c *Conn) PeerNodeID() string { return c.peer }

// PeerClusterID returns the cluster that the peer's certificate names. It is
// news only after DialPinned; elsewhere it is our own.
func (c *Conn) PeerClusterID() string { return c.cluster }

// RemoteAddr returns the peer's UDP address.
func (c *Conn) RemoteAddr() net.Addr { return c.q.RemoteAddr() }

// LocalAddr returns the address of our socket.
func (c *Conn) LocalAddr() net.Addr { return c.q.LocalAddr() }

// Context is done when the connection has ended; its cause says why.
func (c *Conn) Context() context.Context { return c.q.Context() }

// Alive tells whether the connection has not ended yet.
func (c *Conn) Alive() bool { return c.q.Context().Err() == nil }

// OpenStream opens a stream, waiting for the peer's stream limit. The peer
// does not see it before the first byte is written.
func (c *Conn) OpenStream(ctx context.Context) (*Stream, error) {
	s, err := c.q.OpenStreamSync(ctx)
	if err != nil {
		return nil, fmt.Errorf("transport: open a %s stream to %s: %w", c.class, c.name(), err)
	}
	return &Stream{q: s, conn: c}, nil
}

// OpenKind opens a stream for the peer's HandleStream handler of this kind.
func (c *Conn) OpenKind(ctx context.Context, kind byte) (*Stream, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte{kind}); err != nil {
		s.Abort()
		return nil, fmt.Errorf("transport: open a %s stream to %s: %w", c.class, c.name(), err)
	}
	return s, nil
}

// AcceptStream waits for a stream that the peer opened.
func (c *Conn) AcceptStream(ctx context.Context) (*Stream, error) {
	s, err := c.q.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return &Stream{q: s, conn: c}, nil
}

// SendMessage sends b as one unidirectional stream: what does not fit into a
// datagram.
func (c *Conn) SendMessage(ctx context.Context, b []byte) error {
	s, err := c.q.OpenUniStreamSync(ctx)
	if err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok {
		_ = s.SetWriteDeadline(d) // cannot fail before Close
	}
	if _, err := s.Write(b); err != nil {
		s.CancelWrite(streamCancelled)
		return err
	}
	return s.Close()
}

// AcceptMessage waits for a unidirectional stream of the peer. The caller
// reads it to its end or calls CancelRead.
func (c *Conn) AcceptMessage(ctx context.Context) (*quic.ReceiveStream, error) {
	return c.q.AcceptUniStream(ctx)
}

// SendDatagram queues one unreliable packet. quic-go blocks here while 32 are
// queued: call it from a goroutine that may wait. A packet that is too large
// gives a *quic.DatagramTooLargeError.
func (c *Conn) SendDatagram(b []byte) error { return c.q.SendDatagram(b) }

// ReceiveDatagram waits for one unreliable packet.
func (c *Conn) ReceiveDatagram(ctx context.Context) ([]byte, error) { return c.q.ReceiveDatagram(ctx) }

// Close ends the connection and all its streams.
func (c *Conn) Close() error { return c.q.CloseWithError(codeNormal, "") }

// end closes the connection with a reason. quic-go waits for the connection's
// loop in there: never call it with a lock held.
func (c *Conn) end(code quic.ApplicationErrorCode, why string) { _ = c.q.CloseWithError(code, why) }

func (c *Conn) name() string {
	if c.peer == "" {
		return c.RemoteAddr().String()
	}
	return c.peer + " at " + c.RemoteAddr().String()
}

// Stream is a bidirectional QUIC stream as a net.Conn.
type Stream struct {
	q    *quic.Stream
	conn *Conn
	wmu  sync.Mutex // held while writing: see Close
}

var _ net.Conn = (*Stream)(nil)

// Conn returns the connection that carries the stream.
func (s *Stream) Conn() *Conn { return s.conn }

// Context is done when the send side has ended, for instance because the peer
// no longer wants what we send.
func (s *Stream) Context() context.Context { return s.q.Context() }

func (s *Stream) Read(b []byte) (int, error) { return s.q.Read(b) }

func (s *Stream) Write(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.q.Write(b)
}

// CloseWrite ends the send side: the peer reads io.EOF after the last byte.
func (s *Stream) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.q.Close()
}

// Close ends both sides. What was written before is still delivered. QUIC's
// own Close ends the send side alone: without the cancelled read the stream
// would stay open, and hold its credit, until the peer closes too.
//
// QUIC's Close must not overlap a Write; net.Conn's may. A stream that is
// closed in the middle of a write is aborted instead.
func (s *Stream) Close() error {
	s.q.CancelRead(streamCancelled)
	if !s.wmu.TryLock() {
		s.q.CancelWrite(streamCancelled)
		return nil
	}
	defer s.wmu.Unlock()
	return s.q.Close()
}

// Abort ends both sides at once; what was written may be lost.
func (s *Stream) Abort() {
	s.q.CancelRead(streamCancelled)
	s.q.CancelWrite(streamCancelled)
}

// LocalAddr returns the address of our socket.
func (s *Stream) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr returns the peer's UDP address.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline bounds pending and future reads and writes.
func (s *Stream) SetDeadline(t time.Time) error { return s.q.SetDeadline(t) }

// SetReadDeadline bounds pending and future reads.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.q.SetReadDeadline(t) }

// SetWriteDeadline bounds pending and future writes.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.q.SetWriteDeadline(t) }

// urgent is RFC 9218's highest urgency; streams default to 3.
const urgent int8 = 0

// Urgent makes what we send on this stream leave before the bytes of other
// streams on the same connection.
func (s *Stream) Urgent() { s.q.SetPriority(urgent, false) }
