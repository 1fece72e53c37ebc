package transport_test

import (
	"sync/atomic"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"
)

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
