package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/quic-go/quic-go"
)

// Config says how a Mux is to be built. NodeID and Certificate are required
// for everything except DialPinned.
type Config struct {
	// Addr is the UDP address to listen on, as "host:port". Ignored when
	// PacketConn is given.
	Addr string
	// PacketConn, if set, is used instead of a new socket; the Mux closes it.
	// This is the seam for faults: wrap a socket here. A wrapped socket costs
	// GSO and ECN (20 to 35 % more CPU), so leave it nil otherwise.
	PacketConn net.PacketConn

	// NodeID is the fingerprint of this node's key. ClusterID is empty on a
	// node that has not joined yet: it joins with DialPinned and then opens a
	// Mux anew.
	NodeID    string
	ClusterID string
	// Certificate returns what this node presents now: leaf, then the CA (a
	// joining node pins the CA's key and has to see it). Asked at every
	// handshake, so that a renewed certificate needs no restart.
	Certificate func() *tls.Certificate
	// Roots returns the CAs of the cluster, or nil while they are unknown.
	Roots func() *x509.CertPool
	// Revoked tells whether a node was removed. nil: nobody is. Called from
	// handshakes: it must be fast and must not call the Mux.
	Revoked func(nodeID string) bool
	// OnEvidence, if set, hears that a peer's process ended. It must not block.
	OnEvidence func(peer string, kind Evidence)
	// ResetSecret (32 bytes, the same after every restart of this node; see
	// pki.ResetSecret) lets peers learn of a restart with their next packet.
	// Empty: they learn it from the idle timeout.
	ResetSecret []byte

	Now    func() time.Time // nil: time.Now
	Rand   func() float64   // [0, 1), for jitter; nil: math/rand/v2
	Logger hclog.Logger     // nil: none
	Limits Limits           // zero fields take the default
}

// Limits bound what peers can make this node hold. Zero fields take the
// default that is written beside them.
type Limits struct {
	// Idle (2 s) ends a connection that has heard nothing. It bounds how long
	// requests hang on a vanished peer; it is no failure detector. Both sides
	// of a cluster set it: quic-go raises a remote value below 5 s to 5 s
	// unless its own is as low.
	Idle time.Duration
	// KeepAlive (500 ms): four chances within Idle.
	KeepAlive time.Duration
	// Handshake (2 s) ends a handshake that hears nothing for this time;
	// quic-go allows twice this in all.
	Handshake time.Duration
	// Dial (4 s) bounds one dial, greeting included.
	Dial time.Duration
	// MaxAge (1 h, with jitter of a quarter) is when a dialled connection is
	// replaced. At twice this age it is closed even if no replacement could
	// be dialled. It bounds how long an old certificate stays in use.
	MaxAge time.Duration
	// Drain (30 s) is how long a replaced connection may finish its streams.
	Drain time.Duration
	// Upkeep (200 ms) is the rhythm of keep-warm, ageing and expiry: a new
	// leader finds a broken connection at most this old.
	Upkeep time.Duration

	// Streams (16,384) a peer may have open on one connection. quic-go's 100
	// would make the 101st forwarded request wait for an answer.
	Streams int64
	// StreamHandlers (1,024) that one connection may run at a time through
	// HandleStream; more streams wait in QUIC.
	StreamHandlers int

	// Handshakes (512) in progress at a time, for all sources together.
	Handshakes int
	// ClientHandshakes (half of the processors, at least one) of classes without
	// certificates that compute at a time: a herd of clients must not hold up
	// the connections of nodes. One that has waited for a quarter of Handshake
	// (the time) is refused, while its client still listens.
	ClientHandshakes int
	// ClientTurn (100 ms) is how long each may take. It computes for about a
	// millisecond; but a client that offers no usable key share is asked for
	// another one, and may never answer.
	ClientTurn time.Duration
	// PerSource (512) connections without a certificate, handshakes
	// included, per source IP. Many clients share one address (NAT, tests).
	PerSource int
	// Anonymous (1,024) connections without a certificate, so that clients
	// cannot take the room of nodes.
	Anonymous int
	// PerNode (64) accepted connections per peer node: four classes, their
	// replacements, and what a crash left behind for Idle.
	PerNode int
	// Dials (256) in progress at a time.
	Dials int
}

// Receive windows. A connection starts small, because a peer without a
// certificate may fill what it is offered (1,024 connections times 1 MiB), and
// grows only once its peer is known: see Mux.allowWindow.
const (
	initialStreamWindow = 512 << 10 // one full raft batch
	initialConnWindow   = 1 << 20
	maxStreamWindow     = 16 << 20 // a snapshot over 100 ms of round trip at 1 Gb/s
	maxConnWindow       = 64 << 20
	// dialledStreams bounds what the accepting side may open towards the
	// dialler; the protocols above open towards the acceptor.
	dialledStreams = 64
	greetStreams   = 16
	connIDBytes    = 8 // quic-go's 4 collide too early with thousands of connections
	resetKeyBytes  = 32
)

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (l *Limits) fill() {
	def(&l.Idle, 2*time.Second)
	def(&l.KeepAlive, 500*time.Millisecond)
	def(&l.Handshake, 2*time.Second)
	def(&l.Dial, 4*time.Second)
	def(&l.MaxAge, time.Hour)
	def(&l.Drain, 30*time.Second)
	def(&l.Upkeep, 200*time.Millisecond)
	def(&l.Streams, 16384)
	def(&l.StreamHandlers, 1024)
	def(&l.Handshakes, 512)
	def(&l.ClientHandshakes, max(1, runtime.GOMAXPROCS(0)/2))
	def(&l.ClientTurn, 100*time.Millisecond)
	def(&l.PerSource, 512)
	def(&l.Anonymous, 1024)
	def(&l.PerNode, 64)
	def(&l.Dials, 256)
}

func (c *Config) fill() error {
	if c.Addr == "" && c.PacketConn == nil {
		return errors.New("transport: neither an address nor a socket to listen on")
	}
	if n := len(c.ResetSecret); n != 0 && n != resetKeyBytes {
		return fmt.Errorf("transport: reset secret of %d bytes, want %d", n, resetKeyBytes)
	}
	if c.Certificate == nil {
		c.Certificate = func() *tls.Certificate { return nil }
	}
	if c.Roots == nil {
		c.Roots = func() *x509.CertPool { return nil }
	}
	if c.Revoked == nil {
		c.Revoked = func(string) bool { return false }
	}
	if c.OnEvidence == nil {
		c.OnEvidence = func(string, Evidence) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	c.Limits.fill()
	return nil
}

func (m *Mux) quicConfig(dialler bool) *quic.Config {
	l := &m.cfg.Limits
	qc := &quic.Config{
		// One version: nothing to negotiate, nothing to downgrade.
		Versions:                       []quic.Version{quic.Version1},
		HandshakeIdleTimeout:           l.Handshake,
		MaxIdleTimeout:                 l.Idle,
		KeepAlivePeriod:                l.KeepAlive,
		InitialStreamReceiveWindow:     initialStreamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: initialConnWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		AllowConnectionWindowIncrease:  m.allowWindow,
		MaxIncomingStreams:             l.Streams,
		MaxIncomingUniStreams:          l.Streams,
		EnableDatagrams:                true,
	}
	if dialler {
		qc.MaxIncomingStreams, qc.MaxIncomingUniStreams = dialledStreams, greetStreams
		// Dialled peers are authenticated by the handshake.
		qc.AllowConnectionWindowIncrease = nil
	}
	return qc
}
