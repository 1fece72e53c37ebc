package transport

import (
	"slices"
	"time"

	"github.com/quic-go/quic-go"
)

// Peer is a node to which connections are kept open.
type Peer struct {
	NodeID  string
	Addr    string
	Classes []Class
}

// warmth is the state of one connection that Warm keeps. Owned by the upkeep
// goroutine, under Mux.mu.
type warmth struct {
	next    time.Time
	backoff time.Duration
}

// maxWarmBackoff bounds the rhythm of dials to a peer that is away: it is the
// longest that a returning peer waits for its first connection.
const maxWarmBackoff = 2 * time.Second

// retireRetry is the pause after a replacement could not be dialled.
const retireRetry = 10 * time.Second

// hardAge is the multiple of MaxAge at which a connection is closed even
// without a replacement.
const hardAge = 2

// Warm replaces the set of peers to which connections are kept open, so that a
// new leader, or a follower that has to forward to it, does not begin with a
// handshake. Peers that left the set keep the connections that they have, but
// when one ends it is not dialled again. Our own ID is skipped.
func (m *Mux) Warm(peers []Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.warm
	m.warm = map[dialKey]*warmth{}
	for _, p := range peers {
		if p.NodeID == m.cfg.NodeID {
			continue
		}
		for _, class := range p.Classes {
			k := dialKey{class, p.Addr, p.NodeID}
			if w := old[k]; w != nil {
				m.warm[k] = w
				continue
			}
			m.warm[k] = &warmth{}
		}
	}
	m.wakeUpkeep()
}

// wakeUpkeep tells upkeep that it may have something to look at. m.mu is held.
func (m *Mux) wakeUpkeep() {
	if len(m.warm) == 0 && len(m.conns) == 0 {
		return
	}
	select {
	case m.busy <- struct{}{}:
	default:
	}
}

// idle says that nothing can become due before wakeUpkeep.
func (m *Mux) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.warm) == 0 && len(m.conns) == 0
}

// upkeep is the goroutine behind Warm, ageing and expiry. A node that is alone
// sleeps in it.
func (m *Mux) upkeep() {
	defer m.wg.Done()
	t := time.NewTicker(m.cfg.Limits.Upkeep)
	defer t.Stop()
	for {
		if m.idle() {
			t.Stop()
			select {
			case <-m.ctx.Done():
				return
			case <-m.busy:
				t.Reset(m.cfg.Limits.Upkeep)
			}
		}
		select {
		case <-m.ctx.Done():
			return
		case <-t.C:
			m.keepWarm()
			m.retire()
		}
	}
}

func (m *Mux) keepWarm() {
	now := m.cfg.Now()
	m.mu.Lock()
	var due []dialKey
	for k, w := range m.warm {
		if d := m.dials[k]; d != nil {
			if c := d.conn(); c == nil || c.Alive() {
				if c != nil {
					w.backoff = 0
				}
				continue
			}
		}
		if now.Before(w.next) {
			continue
		}
		w.backoff = min(max(2*w.backoff, m.cfg.Limits.Upkeep), maxWarmBackoff)
		w.next = now.Add(w.backoff)
		due = append(due, k)
	}
	m.mu.Unlock()
	for _, k := range due {
		if _, err := m.start(k); err != nil {
			return // closed, or as many dials as allowed: next time
		}
	}
}

// retire closes what is too old or expired, and begins replacements.
func (m *Mux) retire() {
	now := m.cfg.Now()
	type ending struct {
		c    *Conn
		code quic.ApplicationErrorCode
		why  string
	}
	var ends []ending
	m.mu.Lock()
	for c := range m.conns {
		switch {
		case c.peer == "":
			// Without a certificate there is nothing that ages: each request
			// is authenticated by itself.
		case !c.expires.IsZero() && now.After(c.expires):
			ends = append(ends, ending{c, codeExpired, "certificate expired"})
		case now.After(c.born.Add(hardAge * m.cfg.Limits.MaxAge)), !c.closeAt.IsZero() && now.After(c.closeAt):
			ends = append(ends, ending{c, codeAged, "replaced"})
		case !c.accepted() && !c.retiring && now.After(c.retireAt):
			m.replace(c, now)
		}
	}
	m.mu.Unlock()
	for _, e := range ends {
		e.c.end(e.code, e.why)
	}
}

// replace dials the successor of c; c stays in use until it is there. m.mu is
// held.
func (m *Mux) replace(c *Conn, now time.Time) {
	var keys []dialKey
	for k, d := range m.dials {
		if d.conn() == c {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 { // by pin, or already replaced: its owner closes it
		c.retireAt = now.Add(m.cfg.Limits.MaxAge)
		return
	}
	// Prefer the key that names the node.
	slices.SortFunc(keys, func(a, b dialKey) int { return len(b.want) - len(a.want) })
	k := keys[0]
	select {
	case m.slots <- struct{}{}:
	default:
		return // too many dials: next time
	}
	c.retiring = true
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		defer func() { <-m.slots }()
		next, err := m.dial(k)
		m.mu.Lock()
		defer m.mu.Unlock()
		now := m.cfg.Now()
		if err != nil {
			c.retiring = false
			c.retireAt = now.Add(retireRetry)
			m.cfg.Logger.Warn("could not replace an aged connection", "class", c.class.String(), "peer", c.peer, "error", err)
			return
		}
		d := &dialling{done: make(chan struct{}), c: next}
		close(d.done)
		for _, k := range keys {
			if old := m.dials[k]; old == nil || old.conn() == c {
				m.dials[k] = d
			}
		}
		c.closeAt = now.Add(m.cfg.Limits.Drain)
	}()
}
