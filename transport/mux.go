package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/quic-go/quic-go"
)

// Mux carries all classes over one UDP socket. Safe for concurrent use.
type Mux struct {
	cfg  Config
	pc   net.PacketConn
	tr   *quic.Transport
	gate *gate

	// Written before Serve, read-only afterwards.
	handlers map[Class]Handler
	kinds    map[Class]map[byte]StreamHandler

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	slots  chan struct{} // one per dial in progress
	known  sync.Map      // *quic.Conn -> struct{}: may grow its window

	mu       sync.Mutex
	closed   bool
	ln       *quic.Listener
	conns    map[*Conn]struct{}
	accepted map[string]int // connections per peer node
	dials    map[dialKey]*dialling
	warm     map[dialKey]*warmth
	busy     chan struct{} // capacity 1: see wakeUpkeep
	closing  chan struct{} // closed when Close is done
	done     chan struct{} // closed when nothing is accepted any more
	failure  error         // why, unless by Close; written before done is closed
}

// Handler serves one accepted connection. It returns when the connection ends
// or ctx, which is the connection's, is done; the connection is closed when it
// returns.
type Handler func(ctx context.Context, c *Conn)

// StreamHandler serves one accepted stream whose kind byte was read. It closes
// the stream. ctx is the connection's.
type StreamHandler func(ctx context.Context, s *Stream)

// Listen opens the socket. Dial works at once, peers are served from Serve on.
func Listen(cfg Config) (*Mux, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	pc := cfg.PacketConn
	if pc == nil {
		var err error
		if pc, err = listenUDP(cfg.Addr); err != nil {
			return nil, err
		}
	}
	m := &Mux{
		cfg:      cfg,
		pc:       pc,
		handlers: map[Class]Handler{},
		kinds:    map[Class]map[byte]StreamHandler{},
		slots:    make(chan struct{}, cfg.Limits.Dials),
		conns:    map[*Conn]struct{}{},
		accepted: map[string]int{},
		dials:    map[dialKey]*dialling{},
		warm:     map[dialKey]*warmth{},
		busy:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	m.gate = newGate(&m.cfg.Limits)
	m.ctx, m.cancel = context.WithCancel(context.Background()) // the Mux's own life
	m.tr = &quic.Transport{
		Conn:                pc,
		ConnectionIDLength:  connIDBytes,
		VerifySourceAddress: m.gate.suspicious,
		ConnContext:         m.admit,
		// Every peer speaks version 1: answering other versions would only
		// serve as an amplifier.
		DisableVersionNegotiationPackets: true,
	}
	if len(cfg.ResetSecret) == resetKeyBytes {
		key := quic.StatelessResetKey(cfg.ResetSecret)
		m.tr.StatelessResetKey = &key
	}
	m.wg.Add(1)
	go m.upkeep()
	return m, nil
}

// Addr returns the address of the socket.
func (m *Mux) Addr() net.Addr { return m.pc.LocalAddr() }

// NodeID returns this node's ID.
func (m *Mux) NodeID() string { return m.cfg.NodeID }

// ClientsRefused counts the handshakes of clients that were refused because
// those of others took all the time they may have.
func (m *Mux) ClientsRefused() uint64 { return m.gate.refused.Load() }

// Handle sets the handler for a class. Call it before Serve.
func (m *Mux) Handle(class Class, h Handler) { m.handlers[class] = h }

// HandleStream sets the handler for streams that begin with kind. Several
// parts of a program can share a class this way (snapshots and blobs on Bulk).
// A class is served either by Handle or by HandleStream. Call it before Serve.
func (m *Mux) HandleStream(class Class, kind byte, h StreamHandler) {
	if m.kinds[class] == nil {
		m.kinds[class] = map[byte]StreamHandler{}
		m.Handle(class, m.serveStreams)
	}
	m.kinds[class][kind] = h
}

// Serve begins to accept connections and returns.
func (m *Mux) Serve() error {
	if _, err := m.present(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if m.ln != nil {
		return errors.New("transport: Serve called twice")
	}
	ln, err := m.tr.Listen(m.serverTLS(), m.quicConfig(false))
	if err != nil {
		return fmt.Errorf("transport: serve on %s: %w", m.Addr(), err)
	}
	m.ln = ln
	m.wg.Add(1)
	go m.accept(ln)
	return nil
}

// Done is closed when the Mux no longer serves: after Close, or because the
// socket failed (Err tells which). A node whose socket failed is deaf and must
// stop, so that others take its work.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Err returns why the Mux stopped serving: nil before that and after Close.
func (m *Mux) Err() error {
	select {
	case <-m.done:
		return m.failure
	default:
		return nil
	}
}

// track counts a goroutine that is about to start, unless the Mux is closed.
func (m *Mux) track() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.wg.Add(1)
	return true
}

// Close tells every peer that this process is stopping, closes the socket and
// waits for all handlers. Further calls wait for the first one.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		<-m.closing
		return nil
	}
	m.closed = true
	ln := m.ln
	m.mu.Unlock()
	defer close(m.closing)
	if ln == nil {
		close(m.done)
	}
	m.cancel()
	m.closeWhere(codeShutdown, "shutting down", func(*Conn) bool { return true })
	var errs []error
	if ln != nil {
		errs = append(errs, ln.Close())
	}
	// The transport does not close a socket that it was given.
	errs = append(errs, m.tr.Close(), m.pc.Close())
	m.wg.Wait()
	return errors.Join(errs...)
}
