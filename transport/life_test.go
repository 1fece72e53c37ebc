package transport_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/faults"
	"holdfast/transport/internal/transporttest"

	"github.com/quic-go/quic-go"
)

type sign struct {
	peer string
	kind transport.Evidence
}

func withEvidence(ch chan sign) func(*transport.Config) {
	return func(cfg *transport.Config) {
		cfg.OnEvidence = func(peer string, kind transport.Evidence) { ch <- sign{peer, kind} }
	}
}

// clock is the wall clock plus what a test adds.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }

// aging makes a node with its own clock, whose connections live a minute.
func aging(c *clock) func(*transport.Config) {
	return func(cfg *transport.Config) {
		cfg.Now = c.now
		cfg.Rand = func() float64 { return 0.5 } // retire at MaxAge exactly
		cfg.Limits.MaxAge = time.Minute
		cfg.Limits.Drain = 10 * time.Second
		cfg.Limits.Upkeep = 2 * time.Millisecond
	}
}

func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(transporttest.Patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatalf("after %v still not: %s", transporttest.Patience, what)
		panic("unreachable")
	}
}

// guards P6: revocation ends live connections of both directions, and new ones
// are refused.
func TestRevocationOfALiveConnection(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b, d := echoNode(t, c), echoNode(t, c), echoNode(t, c)
	out, in := dial(t, a, b, transport.RPC), dial(t, b, a, transport.Raft)
	bystander := dial(t, a, d, transport.RPC)
	for _, conn := range []*transport.Conn{out, in} {
		if err := ping(conn); err != nil {
			t.Fatal(err)
		}
	}
	c.Revoke(b.ID)
	a.CloseNode(b.ID)
	for name, conn := range map[string]*transport.Conn{"out": out, "in": in} {
		receive(t, name+" has ended", conn.Context().Done())
	}
	if err := ping(bystander); err != nil {
		t.Errorf("another node's connection: %v", err)
	}
	if _, err := a.Dial(t.Context(), b.Addr().String(), transport.RPC, b.ID); !errors.Is(err, transport.ErrRevoked) {
		t.Errorf("dial to a revoked node: %v", err)
	}
	if _, err := b.Dial(t.Context(), a.Addr().String(), transport.RPC, a.ID); err == nil {
		t.Error("a revoked node is served")
	}
}

// guards P5: a peer's farewell is evidence, with its name.
func TestShutdownIsEvidence(t *testing.T) {
	c := transporttest.New(t, "blue")
	signs := make(chan sign, 8)
	a, b := echoNode(t, c, withEvidence(signs)), echoNode(t, c)
	dial(t, a, b, transport.Raft)
	if err := ping(dial(t, b, a, transport.Raft)); err != nil { // accepted connections tell as well
		t.Fatal(err)
	}
	_ = b.Close()
	for range 2 {
		if s := receive(t, "evidence", signs); s != (sign{b.ID, transport.EvidenceClosed}) {
			t.Errorf("%+v", s)
		}
	}
}

// guards P5: a restart is noticed with the next packet, not after the idle
// timeout.
func TestRestartIsNoticed(t *testing.T) {
	c := transporttest.New(t, "blue")
	signs := make(chan sign, 8)
	a, b := echoNode(t, c, withEvidence(signs)), echoNode(t, c)
	addr := b.Addr().String()
	conn := dial(t, a, b, transport.Raft)
	if err := ping(conn); err != nil {
		t.Fatal(err)
	}
	b.Crash()
	again := c.NodeWithKey(t, b.Key, func(cfg *transport.Config) { cfg.Addr = addr })
	handleEcho(again)
	again.Start(t)
	err := ping(conn)
	var reset *quic.StatelessResetError
	if !errors.As(err, &reset) {
		t.Errorf("first use after the restart: %v, want a stateless reset", err)
	}
	if s := receive(t, "evidence", signs); s != (sign{b.ID, transport.EvidenceReset}) {
		t.Errorf("%+v", s)
	}
	if err := ping(dial(t, a, again, transport.Raft)); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// A peer that vanishes without a word ends its connections within the idle
// time, and that is no evidence: a slow network looks the same.
func TestSilenceEndsAConnection(t *testing.T) {
	c := transporttest.New(t, "blue")
	signs := make(chan sign, 8)
	a := echoNode(t, c, withEvidence(signs), func(cfg *transport.Config) {
		cfg.Limits.Idle, cfg.Limits.KeepAlive = 300*time.Millisecond, 100*time.Millisecond
	})
	broken := faults.New(1, nil)
	b := echoNode(t, c, wrapped(t, broken))
	conn := dial(t, a, b, transport.Raft)
	if err := ping(conn); err != nil {
		t.Fatal(err)
	}
	broken.Set(faults.Everyone, faults.Out, faults.Rule{Cut: true})
	receive(t, "the connection ends", conn.Context().Done())
	var idle *quic.IdleTimeoutError
	if cause := context.Cause(conn.Context()); !errors.As(cause, &idle) {
		t.Errorf("ended by %v", cause)
	}
	_ = a.Close() // waits for callbacks
	select {
	case s := <-signs:
		t.Errorf("evidence of silence: %+v", s)
	default:
	}
}

func wrapped(t *testing.T, n *faults.Net) func(*transport.Config) {
	return func(cfg *transport.Config) {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg.PacketConn = n.Wrap(pc)
	}
}

// guards P10: loss, delay, duplication and reordering slow QUIC down and break
// nothing.
func TestWorksOverABadNetwork(t *testing.T) {
	c := transporttest.New(t, "blue")
	bad := faults.New(3, nil)
	for _, dir := range []faults.Direction{faults.In, faults.Out} {
		bad.Set(faults.Everyone, dir, faults.Rule{Drop: 0.05, Duplicate: 0.05, Reorder: 0.05, ReorderBy: 3 * time.Millisecond,
			Delay: time.Millisecond, Jitter: time.Millisecond})
	}
	a, b := c.Node(t, wrapped(t, bad)), echoNode(t, c)
	conn := dial(t, a, b, transport.RPC)
	for range 20 {
		if err := ping(conn); err != nil {
			t.Fatal(err)
		}
	}
	if s := bad.Stats(); s.Dropped == 0 || s.Duplicated == 0 || s.Delayed == 0 {
		t.Errorf("no faults happened: %+v", s)
	}
}

func TestAgedConnectionIsReplaced(t *testing.T) {
	c := transporttest.New(t, "blue")
	var k clock
	signs := make(chan sign, 8)
	a, b := c.Node(t, aging(&k)), echoNode(t, c, withEvidence(signs))
	old := dial(t, a, b, transport.RPC)
	s, err := old.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k.add(59 * time.Second)
	if dial(t, a, b, transport.RPC) != old {
		t.Error("replaced before its time")
	}
	k.add(2 * time.Second)
	var next *transport.Conn
	transporttest.Eventually(t, "a replacement", func() bool {
		next = a.Peek(b.Addr().String(), transport.RPC, b.ID)
		if next == nil {
			t.Fatal("no connection while the replacement is dialled")
		}
		return next != old
	})
	if a.Peek(b.Addr().String(), transport.RPC, "") != next {
		t.Error("without a name the old connection is still handed out")
	}
	// The old one drains: its streams still work, and then it is closed.
	if _, err := s.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if !old.Alive() {
		t.Error("the old connection did not drain")
	}
	k.add(11 * time.Second)
	receive(t, "the old connection is closed", old.Context().Done())
	if err := ping(next); err != nil {
		t.Error(err)
	}
	_ = b.Close()
	select {
	case s := <-signs:
		t.Errorf("the replacement passed for the end of a process: %+v", s)
	default:
	}
}

// guards P6: a connection does not outlive what vouched for its peer.
func TestExpiredPeerIsClosed(t *testing.T) {
	c := transporttest.New(t, "blue")
	var k clock
	a := echoNode(t, c, func(cfg *transport.Config) {
		cfg.Now = k.now
		cfg.Limits.Upkeep = 2 * time.Millisecond
	})
	b := c.Node(t)
	conn := dial(t, b, a, transport.RPC) // b's certificate lives for an hour
	if err := ping(conn); err != nil {
		t.Fatal(err)
	}
	k.add(61 * time.Minute)
	receive(t, "the connection is closed", conn.Context().Done())
	if _, err := b.Dial(t.Context(), a.Addr().String(), transport.RPC, a.ID); err == nil {
		t.Error("an expired certificate is served")
	}
}

func TestHardAge(t *testing.T) {
	c := transporttest.New(t, "blue")
	var k clock
	a := echoNode(t, c, aging(&k))
	b := c.Node(t) // the dialler does not age its own
	conn := dial(t, b, a, transport.RPC)
	k.add(3 * time.Minute)
	receive(t, "the accepting side closes it", conn.Context().Done())
}

func TestRenewedCertificateNeedsNoRestart(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), echoNode(t, c)
	old := dial(t, a, b, transport.Raft)
	b.Cert.Set(c.Issue(t, b.Key, 2*time.Hour))
	a.Cert.Set(c.Issue(t, a.Key, 2*time.Hour))
	if err := ping(old); err != nil {
		t.Errorf("the old connection broke: %v", err)
	}
	if err := ping(dial(t, a, b, transport.RPC)); err != nil {
		t.Error(err)
	}
}

func TestWarm(t *testing.T) {
	c := transporttest.New(t, "blue")
	a := c.Node(t, func(cfg *transport.Config) { cfg.Limits.Upkeep = 2 * time.Millisecond })
	b := echoNode(t, c)
	addr := b.Addr().String()
	classes := []transport.Class{transport.Raft, transport.RPC}
	a.Warm([]transport.Peer{{NodeID: b.ID, Addr: addr, Classes: classes}, {NodeID: a.ID, Addr: a.Addr().String(), Classes: classes}})
	warm := func() bool {
		return a.Peek(addr, transport.Raft, b.ID) != nil && a.Peek(addr, transport.RPC, b.ID) != nil
	}
	transporttest.Eventually(t, "connections are there without a dial", warm)
	if a.Peek(addr, transport.Bulk, b.ID) != nil || a.Peek(a.Addr().String(), transport.Raft, a.ID) != nil {
		t.Error("more is kept warm than was asked for")
	}
	_ = a.Peek(addr, transport.Raft, b.ID).Close()
	transporttest.Eventually(t, "a broken connection is dialled again", warm)
	// The peer is away for a while, and comes back.
	_ = b.Close()
	transporttest.Eventually(t, "the peer is gone", func() bool { return !warm() })
	again := c.NodeWithKey(t, b.Key, func(cfg *transport.Config) { cfg.Addr = addr })
	handleEcho(again)
	again.Start(t)
	transporttest.Eventually(t, "connections are back", warm)
	a.Warm(nil)
	_ = a.Peek(addr, transport.Raft, b.ID).Close()
	if err := ping(dial(t, a, again, transport.RPC)); err != nil {
		t.Error(err)
	}
	if a.Peek(addr, transport.Raft, b.ID) != nil {
		t.Error("a peer that left the set is dialled")
	}
}

// guards P10: a node may hold a bounded number of connections.
func TestConnectionsPerNode(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := echoNode(t, c, func(cfg *transport.Config) { cfg.Limits.PerNode = 2 })
	key := transporttest.Key(t)
	other := c.Node(t)
	var served atomic.Int32
	var wg sync.WaitGroup
	for range 5 {
		twin := c.NodeWithKey(t, key) // its Dial is shared, so several processes
		wg.Go(func() {
			if conn, err := twin.Dial(t.Context(), b.Addr().String(), transport.RPC, b.ID); err == nil && ping(conn) == nil {
				served.Add(1)
			}
		})
	}
	wg.Wait()
	if n := served.Load(); n != 2 {
		t.Errorf("%d connections of one node are served, want 2", n)
	}
	if err := ping(dial(t, other, b, transport.RPC)); err != nil {
		t.Errorf("another node pays for it: %v", err)
	}
}

// guards P10: clients without certificates cannot take the room of nodes.
func TestAnonymousConnections(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := echoNode(t, c, func(cfg *transport.Config) { cfg.Limits.Anonymous = 2 })
	served := 0
	for range 4 {
		n := c.Node(t)
		if conn, err := n.Dial(t.Context(), b.Addr().String(), transport.Client, b.ID); err == nil && ping(conn) == nil {
			served++
		}
	}
	if served != 2 {
		t.Errorf("%d served, want 2", served)
	}
	if err := ping(dial(t, c.Node(t), b, transport.Raft)); err != nil {
		t.Errorf("a node finds no room: %v", err)
	}
}

func TestHandlerEndClosesTheConnection(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), c.Node(t)
	leave := make(chan struct{})
	b.Handle(transport.RPC, func(context.Context, *transport.Conn) { <-leave })
	b.Start(t)
	conn := dial(t, a, b, transport.RPC)
	close(leave)
	receive(t, "the connection ends with its handler", conn.Context().Done())
}

func TestReceiveBufferWarning(t *testing.T) {
	c := transporttest.New(t, "blue")
	small := c.Node(t)
	// Before it serves, nobody has enlarged the buffer.
	if w := small.ReceiveBufferWarning(); w != "" && !strings.Contains(w, "net.core.rmem_max") {
		t.Errorf("the warning does not say what to do: %q", w)
	}
	w := c.Node(t, wrapped(t, faults.New(1, nil)))
	if msg := w.ReceiveBufferWarning(); msg != "" {
		t.Errorf("a wrapped socket has no buffer to judge: %q", msg)
	}
}

func TestListenRefusesNonsense(t *testing.T) {
	for name, cfg := range map[string]transport.Config{
		"no address":  {},
		"bad address": {Addr: "nowhere"},
		"bad secret":  {Addr: "127.0.0.1:0", ResetSecret: []byte("short")},
	} {
		if m, err := transport.Listen(cfg); err == nil {
			_ = m.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
