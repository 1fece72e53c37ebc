package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"holdfast/transport/pki"

	"github.com/quic-go/quic-go"
)

// dialKey names a shared outgoing connection. want is the node that must
// answer; "" takes whoever does.
type dialKey struct {
	class Class
	addr  string
	want  string
}

// dialling is one dial, in progress or done. c and err are written before done
// is closed.
type dialling struct {
	done chan struct{}
	c    *Conn
	err  error
}

// conn returns the connection of a finished, successful dial, otherwise nil.
func (d *dialling) conn() *Conn {
	select {
	case <-d.done:
		return d.c
	default:
		return nil
	}
}

// Dial returns the shared connection of this class to addr, dialling it if
// there is none. Concurrent callers share one dial, which goes on when a
// caller's ctx ends. wantNode is the node that must answer at addr; "" takes
// any node of the cluster. For the classes Join and Client the server is
// checked in the same way, but no certificate is presented.
func (m *Mux) Dial(ctx context.Context, addr string, class Class, wantNode string) (*Conn, error) {
	if class.ALPN() == "" {
		return nil, fmt.Errorf("dial %s: %w: %s", addr, ErrBadClass, class)
	}
	d, err := m.start(dialKey{class, addr, wantNode})
	if err != nil {
		return nil, fmt.Errorf("dial %s for %s: %w", addr, class, err)
	}
	select {
	case <-d.done:
		if d.err != nil {
			return nil, fmt.Errorf("dial %s for %s: %w", addr, class, d.err)
		}
		return d.c, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("dial %s for %s: %w", addr, class, context.Cause(ctx))
	}
}

// Peek returns the shared connection if it is there and alive, otherwise nil.
// It never dials.
func (m *Mux) Peek(addr string, class Class, wantNode string) *Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.dials[dialKey{class, addr, wantNode}]; d != nil {
		if c := d.conn(); c != nil && c.Alive() {
			return c
		}
	}
	return nil
}

// start returns the dial for k, beginning one if there is none that is alive.
func (m *Mux) start(k dialKey) (*dialling, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	if d := m.dials[k]; d != nil {
		c := d.conn()
		select {
		case <-d.done:
			if c != nil && c.Alive() {
				return d, nil
			}
		default:
			return d, nil
		}
	}
	d := &dialling{done: make(chan struct{})}
	if err := m.launch(k, d); err != nil {
		return nil, err
	}
	m.dials[k] = d
	return d, nil
}

// launch runs a dial in its own goroutine. m.mu is held.
func (m *Mux) launch(k dialKey, d *dialling) error {
	select {
	case m.slots <- struct{}{}:
	default:
		return fmt.Errorf("%w: %d dials in progress", ErrTooMany, cap(m.slots))
	}
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		defer func() { <-m.slots }()
		c, err := m.dial(k)
		if err != nil {
			m.cfg.Logger.Debug("dial failed", "class", k.class.String(), "addr", k.addr, "node", k.want, "error", err)
		}
		m.file(k, d, c, err)
	}()
	return nil
}

// file publishes the outcome of a dial and replaces what was there.
func (m *Mux) file(k dialKey, d *dialling, c *Conn, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.c, d.err = c, err
	close(d.done)
	if err != nil {
		if m.dials[k] == d {
			delete(m.dials, k)
		}
		return
	}
	// Whether the caller named the node or not, it is the same connection.
	for _, want := range [...]string{k.want, "", c.peer} {
		alias := dialKey{k.class, k.addr, want}
		old := m.dials[alias]
		if old != nil && old != d {
			if want != k.want && old.conn() == nil {
				continue // its own dial is under way and will file itself
			}
			if oc := old.conn(); oc != nil && want != k.want && oc.Alive() && !oc.retiring {
				continue
			}
		}
		m.dials[alias] = d
	}
	if !c.Alive() { // ended has run, or will find nothing to remove
		for a, v := range m.dials {
			if v == d {
				delete(m.dials, a)
			}
		}
	}
}

func (m *Mux) dial(k dialKey) (*Conn, error) {
	conf, err := m.clientTLS(k.class, k.want)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.Limits.Dial)
	defer cancel()
	q, err := m.handshake(ctx, k.addr, conf)
	if err != nil {
		return nil, err
	}
	cluster, peer, err := pki.Identity(q.ConnectionState().TLS)
	if err == nil && k.class.Mutual() {
		err = awaitGreeting(ctx, q)
	}
	c := &Conn{q: q, class: k.class, cluster: cluster, peer: peer, addr: k.addr}
	if err == nil {
		err = m.register(c)
	}
	if err != nil {
		c.end(codeNormal, "")
		return nil, err
	}
	return c, nil
}

// DialPinned dials a cluster of which only the CA's pin is known (see
// pki.Pin), for class Join or Client. The connection is the caller's own:
// close it. The peer's cluster and node ID are on the connection.
func (m *Mux) DialPinned(ctx context.Context, addr string, class Class, pin string) (*Conn, error) {
	if class != Join && class != Client {
		return nil, fmt.Errorf("dial %s by pin: %w: %s", addr, ErrBadClass, class)
	}
	if !pki.ValidPin(pin) {
		return nil, fmt.Errorf("dial %s by pin: %q is not a pin, want sha256: and 64 hex digits", addr, pin)
	}
	if !m.track() {
		return nil, ErrClosed
	}
	defer m.wg.Done()
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Limits.Dial)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)()
	q, err := m.handshake(ctx, addr, m.pinnedTLS(class, pin))
	if err != nil {
		return nil, fmt.Errorf("dial %s by pin: %w", addr, err)
	}
	cluster, peer, err := pki.Identity(q.ConnectionState().TLS)
	c := &Conn{q: q, class: class, cluster: cluster, peer: peer, addr: addr}
	if err == nil {
		err = m.register(c)
	}
	if err != nil {
		c.end(codeNormal, "")
		return nil, fmt.Errorf("dial %s by pin: %w", addr, err)
	}
	return c, nil
}

func (m *Mux) handshake(ctx context.Context, addr string, conf *tls.Config) (*quic.Conn, error) {
	ua, err := m.resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	q, err := m.tr.Dial(ctx, ua, conf, m.quicConfig(true))
	if errors.Is(err, quic.ErrTransportClosed) {
		return nil, ErrClosed
	}
	return q, err
}
