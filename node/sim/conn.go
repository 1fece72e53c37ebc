package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// idleTimeout is the transport's: a connection that hears nothing for so long
// is dead for its end.
const idleTimeout = 2 * time.Second

var errReset = errors.New("simulated connection: the other process is gone")

// conn is one end of a stream between two processes.
type conn struct {
	in, out *half
	once    sync.Once
	onClose func()
}

// half is one direction: what was written, in order, and what has arrived.
type half struct {
	from, to string
	ctx      context.Context // of the stream; ends both directions at once
	cancel   context.CancelFunc

	mu      sync.Mutex
	queue   [][]byte // under way
	arrived []byte
	closed  bool // by the writer
	eof     bool // that has arrived
	err     error
	send    chan struct{} // capacity 1
	recv    chan struct{} // capacity 1
}

// dial makes a stream between two processes, whose ends are kept until either
// process is gone. The caller has crossed the network once, to open it.
func (w *World) dial(from, to *proc) (near, far *conn) {
	ctx, cancel := context.WithCancel(w.ctx)
	forth := &half{from: from.host.id, to: to.host.id, ctx: ctx, cancel: cancel, send: make(chan struct{}, 1), recv: make(chan struct{}, 1)}
	back := &half{from: to.host.id, to: from.host.id, ctx: ctx, cancel: cancel, send: make(chan struct{}, 1), recv: make(chan struct{}, 1)}
	near, far = &conn{in: back, out: forth}, &conn{in: forth, out: back}
	near.onClose, far.onClose = from.keep(near), to.keep(far)
	w.group.Go(func() { w.pump(forth) })
	w.group.Go(func() { w.pump(back) })
	return near, far
}

// pump brings what is written to the other side, in order.
func (w *World) pump(h *half) {
	for {
		h.mu.Lock()
		var chunk []byte
		end := false
		switch {
		case len(h.queue) > 0:
			chunk, h.queue = h.queue[0], h.queue[1:]
		case h.closed:
			end = true
		}
		h.mu.Unlock()
		if chunk == nil && !end {
			select {
			case <-h.send:
				continue
			case <-h.ctx.Done():
				h.fail(errReset)
				return
			}
		}
		idle, cancel := context.WithTimeout(h.ctx, idleTimeout)
		err := w.net.cross(idle, h.from, h.to)
		cancel()
		if err != nil { // both ends have heard nothing for too long
			h.fail(errReset)
			h.cancel()
			return
		}
		h.mu.Lock()
		h.arrived = append(h.arrived, chunk...)
		h.eof = end
		h.mu.Unlock()
		poke(h.recv)
		if end {
			return
		}
	}
}

func (h *half) fail(err error) {
	h.mu.Lock()
	if h.err == nil && !h.eof {
		h.err = err
	}
	h.mu.Unlock()
	poke(h.recv)
}

// Read implements net.Conn. One goroutine reads.
func (c *conn) Read(p []byte) (int, error) {
	h := c.in
	for {
		h.mu.Lock()
		switch {
		case len(h.arrived) > 0:
			n := copy(p, h.arrived)
			h.arrived = h.arrived[n:]
			h.mu.Unlock()
			return n, nil
		case h.err != nil:
			defer h.mu.Unlock()
			return 0, h.err
		case h.eof:
			h.mu.Unlock()
			return 0, io.EOF
		}
		h.mu.Unlock()
		<-h.recv
	}
}

// Write implements net.Conn. It never blocks: the windows are wide.
func (c *conn) Write(p []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.err != nil {
		return 0, net.ErrClosed
	}
	h.queue = append(h.queue, append([]byte(nil), p...))
	poke(h.send)
	return len(p), nil
}

// Close implements net.Conn: what was written still arrives, and then the end.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.mu.Lock()
		c.out.closed = true
		c.out.mu.Unlock()
		poke(c.out.send)
		c.in.fail(net.ErrClosed)
		c.onClose()
	})
	return nil
}

// cut ends a stream in the middle of what is under way, keeping n chunks.
func (c *conn) cut(n int) {
	c.out.mu.Lock()
	c.out.queue = c.out.queue[:min(n, len(c.out.queue))]
	c.out.mu.Unlock()
	_ = c.Close()
}

// abandon ends this end at once, with its process. The other end learns of it
// when the network lets it (sudden), or by its idle time-out.
func (c *conn) abandon(w *World, sudden bool) {
	c.once.Do(func() {
		c.out.mu.Lock()
		c.out.closed, c.out.queue = true, nil
		c.out.err = net.ErrClosed
		c.out.mu.Unlock()
		c.in.fail(net.ErrClosed)
		w.group.Go(func() {
			patience, cancel := context.WithTimeout(w.ctx, idleTimeout)
			defer cancel()
			if !sudden || w.net.cross(patience, c.out.from, c.out.to) != nil {
				<-patience.Done()
			}
			c.out.cancel()
		})
	})
}

// LocalAddr and the rest of net.Conn.
func (c *conn) LocalAddr() net.Addr  { return addr(c.out.from) }
func (c *conn) RemoteAddr() net.Addr { return addr(c.out.to) }

// SetDeadline and its kin do nothing: nothing here blocks a writer, and those
// who read end by Close.
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

type addr string

func (addr) Network() string  { return "sim" }
func (a addr) String() string { return string(a) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
