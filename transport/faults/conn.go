package faults

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// maxPending bounds the packets that are held back, and those that wait
	// to be read; more are lost, as in a full socket buffer.
	maxPending = 4096
	// maxPacket is more than QUIC ever sends.
	maxPacket = 64 << 10
)

type packet struct {
	b    []byte
	from net.Addr
}

// conn is a socket under the rules of a Net.
type conn struct {
	net.PacketConn
	rules *Net
	in    chan packet
	gone  chan struct{} // closed when the socket can no longer be read
	err   error         // why; written before gone is closed
	wg    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	timers   map[*time.Timer]struct{}
	deadline chan struct{} // closed at the read deadline
	alarm    *time.Timer
}

// Wrap puts a socket under the rules. Close of the result closes pc.
func (n *Net) Wrap(pc net.PacketConn) net.PacketConn {
	c := &conn{PacketConn: pc, rules: n, in: make(chan packet, maxPending), gone: make(chan struct{}),
		timers: map[*time.Timer]struct{}{}, deadline: make(chan struct{})}
	c.wg.Add(1)
	go c.pump()
	return c
}

// pump reads the socket, so that a packet can be held back without holding
// back those behind it.
func (c *conn) pump() {
	defer c.wg.Done()
	defer close(c.gone)
	buf := make([]byte, maxPacket)
	for {
		n, from, err := c.PacketConn.ReadFrom(buf)
		if err != nil {
			c.err = err
			return
		}
		for _, d := range c.rules.decide(from.String(), In, n) {
			p := packet{append([]byte(nil), buf[:n]...), from}
			c.after(d, func() {
				select {
				case c.in <- p:
				default: // full
				}
			})
		}
	}
}

// after runs f in d, or now; not at all once the socket is closed or too much
// is held back.
func (c *conn) after(d time.Duration, f func()) {
	if d <= 0 {
		f()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.timers) >= maxPending {
		return
	}
	c.wg.Add(1)
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		defer c.wg.Done()
		c.mu.Lock() // also orders the assignment of t before this
		delete(c.timers, t)
		closed := c.closed
		c.mu.Unlock()
		if !closed {
			f()
		}
	})
	c.timers[t] = struct{}{}
}

func (c *conn) WriteTo(b []byte, to net.Addr) (int, error) {
	for _, d := range c.rules.decide(to.String(), Out, len(b)) {
		if d == 0 {
			if n, err := c.PacketConn.WriteTo(b, to); err != nil {
				return n, err
			}
			continue
		}
		later := append([]byte(nil), b...)
		// An error that comes too late for the sender is a lost packet.
		c.after(d, func() { _, _ = c.PacketConn.WriteTo(later, to) })
	}
	return len(b), nil
}

func (c *conn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	select {
	case <-deadline:
		return 0, nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case p := <-c.in:
		return copy(b, p.b), p.from, nil
	case <-c.gone:
		return 0, nil, c.err
	case <-deadline:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// SetReadDeadline bounds pending and future reads.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != nil {
		c.alarm.Stop()
		c.alarm = nil
	}
	select {
	case <-c.deadline:
		c.deadline = make(chan struct{})
	default:
	}
	if t.IsZero() || c.closed {
		return nil
	}
	ch := c.deadline
	d := time.Until(t)
	if d <= 0 {
		close(ch)
		return nil
	}
	var alarm *time.Timer
	alarm = time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.alarm == alarm { // not replaced meanwhile
			close(ch)
		}
	})
	c.alarm = alarm
	return nil
}

// SetDeadline bounds reads and writes.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadBuffer passes through; quic-go complains when it is missing.
func (c *conn) SetReadBuffer(n int) error {
	if s, ok := c.PacketConn.(interface{ SetReadBuffer(int) error }); ok {
		return s.SetReadBuffer(n)
	}
	return nil
}

// SetWriteBuffer passes through; quic-go complains when it is missing.
func (c *conn) SetWriteBuffer(n int) error {
	if s, ok := c.PacketConn.(interface{ SetWriteBuffer(int) error }); ok {
		return s.SetWriteBuffer(n)
	}
	return nil
}

// Close closes the socket and drops what is held back.
func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	if c.alarm != nil {
		c.alarm.Stop()
	}
	for t := range c.timers {
		if t.Stop() {
			c.wg.Done()
		}
		delete(c.timers, t)
	}
	c.mu.Unlock()
	err := c.PacketConn.Close()
	c.wg.Wait()
	return err
}

// Dial opens a connected UDP socket under the rules, for probes: packets and
// the kernel's refusals are lost as the rules say, but not delayed.
func (n *Net) Dial(addr string) (net.Conn, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return nil, err
	}
	return &probe{Conn: c, rules: n, peer: c.RemoteAddr().String()}, nil
}

type probe struct {
	net.Conn
	rules *Net
	peer  string
}

func (p *probe) Write(b []byte) (int, error) {
	if p.rules.lost(p.peer, Out, len(b)) {
		return len(b), nil
	}
	n, err := p.Conn.Write(b)
	// The kernel hands a refusal of an earlier packet to the next call.
	if errors.Is(err, syscall.ECONNREFUSED) && p.rules.lost(p.peer, In, 0) {
		return len(b), nil
	}
	return n, err
}

func (p *probe) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return n, err
		}
		if !p.rules.lost(p.peer, In, n) {
			return n, err
		}
	}
}
