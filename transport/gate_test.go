package transport

import (
	"errors"
	"net"
	"testing"

	"pgregory.net/rapid"
)

func from(last byte) net.Addr { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, last), Port: 1} }

func TestGateLimits(t *testing.T) {
	g := newGate(&Limits{Handshakes: 8, PerSource: 4, Anonymous: 2})
	var held []*ticket
	enter := func(last byte) error {
		k, err := g.enter(from(last))
		if err == nil {
			held = append(held, k)
		}
		return err
	}
	for i := range 4 {
		if err := enter(1); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := enter(1); !errors.Is(err, ErrTooMany) {
		t.Errorf("fifth of one source: %v", err)
	}
	for range 4 {
		if err := enter(2); err != nil {
			t.Fatal(err)
		}
	}
	if err := enter(3); !errors.Is(err, ErrTooMany) {
		t.Errorf("ninth handshake: %v", err)
	}
	if !g.suspicious(from(9)) {
		t.Error("a new source need not prove its address while all is full")
	}
	// Nodes leave the gate, clients stay in it.
	if err := held[0].established(true); err != nil {
		t.Error(err)
	}
	for _, k := range held[1:3] {
		if err := k.established(false); err != nil {
			t.Error(err)
		}
	}
	if err := held[3].established(false); !errors.Is(err, ErrTooMany) {
		t.Errorf("third client: %v", err)
	}
	for _, k := range held {
		k.leave()
	}
	if g.suspicious(from(1)) {
		t.Error("an empty gate is suspicious")
	}
}

// Whatever the order of events, everything is given back.
func TestGateBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newGate(&Limits{Handshakes: 5, PerSource: 3, Anonymous: 2})
		var held []*ticket
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 3).Draw(t, "op"); {
			case op == 0:
				if k, err := g.enter(from(rapid.Byte().Draw(t, "src") % 3)); err == nil {
					held = append(held, k)
				}
			case len(held) == 0:
			default:
				k := held[rapid.IntRange(0, len(held)-1).Draw(t, "which")]
				if op == 3 {
					k.leave()
				} else if !k.anonymous && !k.done { // established once
					_ = k.established(op == 1)
				}
			}
			if g.handshake < 0 || g.handshake > 5 || g.anonymous < 0 || g.anonymous > 2 {
				t.Fatalf("%d handshakes, %d anonymous", g.handshake, g.anonymous)
			}
		}
		for _, k := range held {
			k.leave()
			k.leave() // twice is once
		}
		if g.handshake != 0 || g.anonymous != 0 || len(g.sources) != 0 {
			t.Fatalf("left over: %d %d %v", g.handshake, g.anonymous, g.sources)
		}
	})
}

func TestClasses(t *testing.T) {
	want := map[Class]string{Raft: "raft", Gossip: "gossip", RPC: "rpc", Bulk: "bulk", Join: "join", Client: "client"}
	for c, name := range want {
		back, ok := classOf(c.ALPN())
		if c.String() != name || c.ALPN() != "holdfast-"+name+"/1" || back != c || !ok {
			t.Errorf("%d: %s %s %v", c, c, c.ALPN(), back)
		}
		if c.Mutual() == (c == Join || c == Client) {
			t.Errorf("%s: mutual %v", c, c.Mutual())
		}
	}
	if c := Class(77); c.ALPN() != "" || c.Mutual() || c.String() != "class(77)" {
		t.Error("an unknown class means something")
	}
}

// Without faults quic-go must get the bare socket: a wrapper would cost
// segmentation offload, a fifth to a third of the CPU.
func TestSocketIsNotWrapped(t *testing.T) {
	m, err := Listen(Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, ok := m.tr.Conn.(*net.UDPConn); !ok {
		t.Errorf("quic-go got a %T", m.tr.Conn)
	}
}
