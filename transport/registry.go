package transport

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// register files a connection and arranges for its end. It refuses when the
// Mux is closed, when the peer was revoked while the handshake ran, or when
// the peer has too many.
func (m *Mux) register(c *Conn) error {
	if cert := c.q.ConnectionState().TLS.PeerCertificates; len(cert) > 0 {
		c.expires = cert[0].NotAfter
	}
	c.born = m.cfg.Now()
	// Three quarters to five quarters of MaxAge: nodes that start together
	// must not dial anew together.
	c.retireAt = c.born.Add(time.Duration(float64(m.cfg.Limits.MaxAge) * (0.75 + 0.5*m.cfg.Rand())))

	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	if n := m.accepted[c.peer]; c.accepted() && c.peer != "" {
		if n >= m.cfg.Limits.PerNode {
			m.mu.Unlock()
			return fmt.Errorf("%w: %d from node %s", ErrTooMany, n, c.peer)
		}
		m.accepted[c.peer]++
	}
	m.conns[c] = struct{}{}
	m.wakeUpkeep()
	m.wg.Add(1)
	m.mu.Unlock()
	context.AfterFunc(c.q.Context(), func() { m.ended(c) })
	// Only now: CloseNode either sees the connection in the table or has been
	// preceded by the revocation that is seen here.
	if c.peer != "" && m.cfg.Revoked(c.peer) {
		return fmt.Errorf("%w: %s", ErrRevoked, c.peer)
	}
	return nil
}

func (c *Conn) accepted() bool { return c.addr == "" }

// ended runs once per registered connection, after its end.
func (m *Mux) ended(c *Conn) {
	defer m.wg.Done()
	m.known.Delete(c.q)
	m.mu.Lock()
	delete(m.conns, c)
	if c.accepted() && c.peer != "" {
		if m.accepted[c.peer]--; m.accepted[c.peer] == 0 {
			delete(m.accepted, c.peer)
		}
	}
	for k, d := range m.dials {
		if d.conn() == c {
			delete(m.dials, k)
		}
	}
	closed := m.closed
	m.mu.Unlock()
	cause := context.Cause(c.q.Context())
	m.cfg.Logger.Debug("connection ended", "class", c.class.String(), "peer", c.name(), "cause", cause)
	if e, ok := evidenceOf(cause); ok && c.peer != "" && !closed {
		m.cfg.OnEvidence(c.peer, e)
	}
}

// allowWindow lets only authenticated peers grow past the initial window.
// quic-go forbids calls on the connection in here.
func (m *Mux) allowWindow(q *quic.Conn, _ uint64) bool {
	_, ok := m.known.Load(q)
	return ok
}

// CloseNode ends every connection from and to a node. Call it after the node
// is in the revocation set, otherwise it just dials again.
func (m *Mux) CloseNode(nodeID string) {
	m.closeWhere(codeRevoked, "node revoked", func(c *Conn) bool { return c.peer == nodeID })
}

func (m *Mux) closeWhere(code quic.ApplicationErrorCode, why string, match func(*Conn) bool) {
	m.mu.Lock()
	var list []*Conn
	for c := range m.conns {
		if match(c) {
			list = append(list, c)
		}
	}
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() { c.end(code, why) })
	}
	wg.Wait()
}
