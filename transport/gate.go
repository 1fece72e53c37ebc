package transport

import (
	"context"
	"crypto"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// gate counts what unknown peers hold: handshakes in progress, and connections
// of classes without certificates.
//
// A source address can be forged until the handshake has sent something back.
// Counting forged sources would let anyone lock a voter out by using up its
// allowance. So when there are many handshakes, new sources must first prove
// their address (QUIC's Retry, one round trip); forged ones then never reach
// the counters.
type gate struct {
	limits *Limits

	turns   chan struct{} // one per client's handshake that computes
	refused atomic.Uint64 // clients that got no turn

	mu        sync.Mutex
	handshake int
	anonymous int
	sources   map[netip.Addr]int
}

type ticketKey struct{}

// ticket is one incoming connection's place in the gate.
type ticket struct {
	g      *gate
	source netip.Addr
	turn   atomic.Bool // holds one of g.turns

	// guarded by g.mu
	inHandshake bool
	anonymous   bool
	perSource   bool
	done        bool
}

func newGate(l *Limits) *gate {
	return &gate{limits: l, turns: make(chan struct{}, max(1, l.ClientHandshakes)), sources: map[netip.Addr]int{}}
}

// retryDivisor: address proof is asked for from a quarter of a limit on; below
// that a round trip is worth more.
const retryDivisor = 4

func sourceOf(a net.Addr) netip.Addr {
	if u, ok := a.(*net.UDPAddr); ok {
		return u.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// suspicious tells whether a new source must prove its address first.
func (g *gate) suspicious(a net.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.handshake >= g.limits.Handshakes/retryDivisor || g.sources[sourceOf(a)] >= g.limits.PerSource/retryDivisor
}

// enter counts a handshake that begins.
func (g *gate) enter(a net.Addr) (*ticket, error) {
	src := sourceOf(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.handshake >= g.limits.Handshakes {
		return nil, fmt.Errorf("%w: %d handshakes in progress", ErrTooMany, g.handshake)
	}
	if g.sources[src] >= g.limits.PerSource {
		return nil, fmt.Errorf("%w: %d from %s", ErrTooMany, g.sources[src], src)
	}
	g.handshake++
	g.sources[src]++
	return &ticket{g: g, source: src, inHandshake: true, perSource: true}, nil
}

// established moves a connection out of its handshake. A connection with a
// certificate is no longer counted here but per node.
func (t *ticket) established(mutual bool) error {
	g := t.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.done {
		return nil
	}
	t.leaveHandshake()
	if mutual {
		t.leaveSource()
		return nil
	}
	if g.anonymous >= g.limits.Anonymous {
		return fmt.Errorf("%w: %d without a certificate", ErrTooMany, g.anonymous)
	}
	g.anonymous++
	t.anonymous = true
	return nil
}

// take waits for a turn to compute. It blocks the connection, and nothing else.
func (t *ticket) take(ctx context.Context) error {
	g := t.g
	select {
	case g.turns <- struct{}{}:
	default:
		patience := time.NewTimer(g.limits.Handshake / 4)
		defer patience.Stop()
		select {
		case g.turns <- struct{}{}:
		case <-patience.C:
			g.refused.Add(1)
			return fmt.Errorf("%w: the handshakes of other clients take all the time", ErrTooMany)
		case <-ctx.Done():
			return ErrClosed
		}
	}
	t.turn.Store(true)
	time.AfterFunc(g.limits.ClientTurn, t.release)
	return nil
}

// release gives the turn back, if there is one.
func (t *ticket) release() {
	if t.turn.CompareAndSwap(true, false) {
		<-t.g.turns
	}
}

// lastStep signs for a handshake, the last thing of any weight that it
// computes, and gives its turn back.
type lastStep struct {
	crypto.Signer
	t *ticket
}

func (s lastStep) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	defer s.t.release()
	return s.Signer.Sign(rand, digest, opts)
}

// leave gives everything back.
func (t *ticket) leave() {
	t.release()
	g := t.g
	g.mu.Lock()
	defer g.mu.Unlock()
	t.done = true
	t.leaveHandshake()
	t.leaveSource()
	if t.anonymous {
		t.anonymous = false
		g.anonymous--
	}
}

func (t *ticket) leaveHandshake() {
	if t.inHandshake {
		t.inHandshake = false
		t.g.handshake--
	}
}

func (t *ticket) leaveSource() {
	if !t.perSource {
		return
	}
	t.perSource = false
	if t.g.sources[t.source]--; t.g.sources[t.source] == 0 {
		delete(t.g.sources, t.source)
	}
}

func ticketOf(ctx context.Context) *ticket {
	t, _ := ctx.Value(ticketKey{}).(*ticket)
	return t
}
