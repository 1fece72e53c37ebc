package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

const (
	// PacketSize is what memberlist.Config.UDPBufferSize must be. A datagram
	// carries 1,230 bytes before path MTU discovery has run; memberlist adds
	// its headers on top of the buffer size.
	PacketSize = 1150

	// queueLength is how many packets wait for one peer: about two seconds of
	// gossip while a connection is dialled.
	queueLength = 128
	// maxSenders bounds the peers that are written to at a time.
	maxSenders = 4096
	// inbox is how many packets wait for memberlist.
	inbox = 1024
	// maxMessage bounds a packet that came as a stream.
	maxMessage = 1 << 20
	// dialTimeout bounds the dial for packets: older ones are worthless.
	dialTimeout = time.Second
	// idleSender is when the goroutine of a quiet peer goes. Longer than any
	// gossip interval.
	idleSender = 10 * time.Second
	// messageTimeout bounds reading or writing one message stream.
	messageTimeout = 5 * time.Second
)

// ErrShutdown: the transport is shut down.
var ErrShutdown = errors.New("gossip: transport is shut down")

// Config says how a Transport is to be built.
type Config struct {
	// Mux carries the traffic. New registers a handler on it: call New before
	// Mux.Serve. The Mux stays the caller's.
	Mux    *transport.Mux
	Logger hclog.Logger // nil: none
}

// Stats counts packets since New.
type Stats struct {
	Datagrams uint64 // sent as such
	Streams   uint64 // sent as a stream, too large for a datagram
	Dropped   uint64 // not sent: queue full, or no connection
	Lost      uint64 // not delivered: memberlist too slow, or malformed
}

// Transport is a memberlist.NodeAwareTransport.
type Transport struct {
	mux     *transport.Mux
	logger  hclog.Logger
	packets chan *memberlist.Packet
	streams chan net.Conn

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup

	datagrams, large, dropped, lost atomic.Uint64

	mu      sync.Mutex
	closed  bool
	senders map[memberlist.Address]*sender
}

var _ memberlist.NodeAwareTransport = (*Transport)(nil)

// New makes a Transport and registers it on the Mux.
func New(cfg Config) (*Transport, error) {
	if cfg.Mux == nil {
		return nil, errors.New("gossip: a Mux is required")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	t := &Transport{
		mux: cfg.Mux, logger: cfg.Logger,
		packets: make(chan *memberlist.Packet, inbox), streams: make(chan net.Conn),
		senders: map[memberlist.Address]*sender{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background()) // the transport's own life
	cfg.Mux.Handle(transport.Gossip, t.serve)
	return t, nil
}

// Stats returns the counters.
func (t *Transport) Stats() Stats {
	return Stats{Datagrams: t.datagrams.Load(), Streams: t.large.Load(), Dropped: t.dropped.Load(), Lost: t.lost.Load()}
}

// FinalAdvertiseAddr returns what the operator configured, or the address of
// our one socket.
func (t *Transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	ua, ok := t.mux.Addr().(*net.UDPAddr)
	if !ok {
		return nil, 0, fmt.Errorf("gossip: the socket's address %v is not UDP", t.mux.Addr())
	}
	if ip == "" {
		if ua.IP.IsUnspecified() {
			return nil, 0, fmt.Errorf("gossip: the node listens on %v: set the address to advertise", ua)
		}
		return ua.IP, ua.Port, nil
	}
	addr := net.ParseIP(ip)
	if addr == nil {
		return nil, 0, fmt.Errorf("gossip: advertise address %q is not an IP address", ip)
	}
	if port == 0 {
		port = ua.Port
	}
	if v4 := addr.To4(); v4 != nil {
		addr = v4
	}
	return addr, port, nil
}

// PacketCh returns the packets for memberlist.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the streams for memberlist.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout opens a stream to whichever node answers at addr.
func (t *Transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout opens a stream to a node; if it is named, to no other.
func (t *Transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	c, err := t.mux.Dial(ctx, a.Addr, transport.Gossip, a.Name)
	if err != nil {
		return nil, err
	}
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Shutdown ends all goroutines and waits for them. The Mux lives on.
func (t *Transport) Shutdown() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	return nil
}

// serve runs one accepted connection.
func (t *Transport) serve(ctx context.Context, c *transport.Conn) {
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.wg.Add(1)
	}
	t.mu.Unlock()
	if closed {
		return
	}
	defer t.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { t.serveDatagrams(ctx, c) })
	wg.Go(func() { t.serveMessages(ctx, c) })
	for {
		s, err := c.AcceptStream(ctx)
		if err != nil {
			cancel()
			return
		}
		select {
		case t.streams <- s:
		case <-ctx.Done():
			s.Abort()
			return
		}
	}
}
