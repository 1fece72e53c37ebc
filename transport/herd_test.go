package transport_test

import (
	"crypto/tls"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"
)

// guards P10: a herd of clients computes a bounded number of handshakes at a
// time, and all are served.
func TestHerdOfClients(t *testing.T) {
	c := transporttest.New(t, "blue")
	var computing, atOnce atomic.Int32
	b := echoNode(t, c, func(cfg *transport.Config) {
		cfg.Limits.ClientHandshakes, cfg.Limits.ClientTurn = 1, time.Minute
		cfg.Limits.Handshake = time.Hour // nobody is refused for waiting, however busy this machine is
		get := cfg.Certificate
		cfg.Certificate = func() *tls.Certificate { // asked within the turn
			n := computing.Add(1)
			defer computing.Add(-1)
			for range 50 { // lets the others come
				runtime.Gosched()
				for old := atOnce.Load(); n > old && !atOnce.CompareAndSwap(old, n); old = atOnce.Load() {
				}
			}
			return get()
		}
	})
	var herd sync.WaitGroup
	for range 30 {
		client := c.Node(t)
		herd.Go(func() {
			conn, err := client.Dial(t.Context(), b.Addr().String(), transport.Client, b.ID)
			if err == nil {
				err = ping(conn)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	herd.Wait()
	if n := atOnce.Load(); n != 1 {
		t.Errorf("%d handshakes computed at once, want 1", n)
	}
	if n := b.ClientsRefused(); n != 0 {
		t.Errorf("%d clients were refused", n)
	}
}

// A client's handshake that hangs keeps its turn for a moment only, and nodes
// wait for no turn.
func TestHangingHandshakeLosesItsTurn(t *testing.T) {
	c := transporttest.New(t, "blue")
	end := make(chan struct{})
	held := make(chan struct{}, 64)
	var hold atomic.Bool
	b := echoNode(t, c, func(cfg *transport.Config) {
		cfg.Limits.ClientHandshakes = 1
		get := cfg.Certificate
		cfg.Certificate = func() *tls.Certificate {
			if hold.CompareAndSwap(true, false) {
				held <- struct{}{}
				<-end
			}
			return get()
		}
	})
	var hanging sync.WaitGroup
	letGo := sync.OnceFunc(func() {
		close(end)
		hanging.Wait()
	})
	t.Cleanup(letGo) // before the nodes are closed
	hold.Store(true)
	first := c.Node(t)
	hanging.Go(func() { _, _ = first.Dial(t.Context(), b.Addr().String(), transport.Client, b.ID) })
	<-held
	if err := ping(dial(t, c.Node(t), b, transport.Raft)); err != nil {
		t.Errorf("a node waits for a client: %v", err)
	}
	if err := ping(dial(t, c.Node(t), b, transport.Client)); err != nil {
		t.Errorf("another client: %v", err)
	}
	letGo()
}
