package transport_test

import (
	"context"
	"errors"
	"net"
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
