package transport_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/transport"
	"holdfast/transport/faults"
	"holdfast/transport/internal/transporttest"
)

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
