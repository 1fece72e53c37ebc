package transport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"

	"github.com/quic-go/quic-go"
)

var nodeClasses = []transport.Class{transport.Raft, transport.Gossip, transport.RPC, transport.Bulk}

// echo answers every stream with what it reads.
func echo(ctx context.Context, c *transport.Conn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s, err := c.AcceptStream(ctx)
		if err != nil {
			return
		}
		wg.Go(func() {
			defer s.Close()
			_, _ = io.Copy(s, s)
		})
	}
}

func echoNode(t *testing.T, c *transporttest.Cluster, opts ...func(*transport.Config)) *transporttest.Node {
	t.Helper()
	n := c.Node(t, opts...)
	handleEcho(n)
	return n.Start(t)
}

func handleEcho(n *transporttest.Node) {
	for _, class := range append([]transport.Class{transport.Join, transport.Client}, nodeClasses...) {
		n.Handle(class, echo)
	}
}

// ping sends one message over a new stream and reads it back.
func ping(c *transport.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), transporttest.Patience)
	defer cancel()
	s, err := c.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	if _, err := s.Write([]byte("ping")); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(s, b[:]); err != nil {
		return err
	}
	if string(b[:]) != "ping" {
		return errors.New("echo said " + string(b[:]))
	}
	return nil
}

func dial(t *testing.T, from, to *transporttest.Node, class transport.Class) *transport.Conn {
	t.Helper()
	c, err := from.Dial(t.Context(), to.Addr().String(), class, to.ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAllClassesOverOneSocket(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := echoNode(t, c), echoNode(t, c)
	seen := map[*transport.Conn]bool{}
	for _, class := range append([]transport.Class{transport.Client}, nodeClasses...) {
		conn := dial(t, a, b, class)
		if conn.PeerNodeID() != b.ID || conn.Class() != class || seen[conn] {
			t.Errorf("%s: peer %s, class %s", class, conn.PeerNodeID(), conn.Class())
		}
		seen[conn] = true
		if err := ping(conn); err != nil {
			t.Errorf("%s: %v", class, err)
		}
		if conn.LocalAddr().String() != a.Addr().String() {
			t.Errorf("%s does not leave from our one socket but from %s", class, conn.LocalAddr())
		}
	}
}

func TestDialIsShared(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), echoNode(t, c)
	var wg sync.WaitGroup
	conns := make([]*transport.Conn, 32)
	for i := range conns {
		wg.Go(func() {
			var err error
			if conns[i], err = a.Dial(t.Context(), b.Addr().String(), transport.RPC, b.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, conn := range conns {
		if conn != conns[0] {
			t.Fatal("two connections to one peer for one class")
		}
	}
	for _, want := range []string{"", b.ID} {
		if a.Peek(b.Addr().String(), transport.RPC, want) != conns[0] {
			t.Errorf("Peek with the name %q finds another connection", want)
		}
		if got, err := a.Dial(t.Context(), b.Addr().String(), transport.RPC, want); got != conns[0] {
			t.Errorf("Dial with the name %q made another connection: %v", want, err)
		}
	}
	if a.Peek(b.Addr().String(), transport.Raft, b.ID) != nil {
		t.Error("Peek found a connection of a class that was never dialled")
	}
}

func TestStreamKinds(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), c.Node(t)
	say := func(word string) transport.StreamHandler {
		return func(_ context.Context, s *transport.Stream) {
			defer s.Close()
			_, _ = io.WriteString(s, word)
		}
	}
	b.HandleStream(transport.Bulk, 1, say("snapshot"))
	b.HandleStream(transport.Bulk, 2, say("blob"))
	b.Start(t)
	conn := dial(t, a, b, transport.Bulk)
	for kind, want := range map[byte]string{1: "snapshot", 2: "blob"} {
		s, err := conn.OpenKind(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != want {
			t.Errorf("kind %d: %q %v", kind, got, err)
		}
		_ = s.Close()
	}
	s, err := conn.OpenKind(t.Context(), 9)
	if err != nil {
		t.Fatal(err)
	}
	var se *quic.StreamError
	if _, err := io.ReadAll(s); !errors.As(err, &se) {
		t.Errorf("unknown kind: %v, want a cancelled stream", err)
	}
	if !conn.Alive() {
		t.Error("a stream of an unknown kind ended the connection")
	}
}

// A closed stream must give its credit back, whoever closes first.
func TestClosedStreamsGiveCreditBack(t *testing.T) {
	c := transporttest.New(t, "blue")
	a := c.Node(t)
	b := echoNode(t, c, func(cfg *transport.Config) { cfg.Limits.Streams = 4 })
	conn := dial(t, a, b, transport.RPC)
	for range 40 {
		if err := ping(conn); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseDuringWriteDoesNotHang(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), c.Node(t)
	b.Handle(transport.Bulk, func(ctx context.Context, _ *transport.Conn) { <-ctx.Done() }) // never reads
	b.Start(t)
	s, err := dial(t, a, b, transport.Bulk).OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, _ = s.Write([]byte("x"))
		close(began)
		_, err := s.Write(make([]byte, 64<<20)) // more than any window
		done <- err
	}()
	<-began
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("a write of 64 MiB that nobody reads succeeded")
	}
}

func TestDatagramsAndMessages(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), c.Node(t)
	got := make(chan string, 2)
	b.Handle(transport.Gossip, func(ctx context.Context, conn *transport.Conn) {
		d, err := conn.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		got <- string(d)
		r, err := conn.AcceptMessage(ctx)
		if err != nil {
			return
		}
		m, _ := io.ReadAll(r)
		got <- string(m)
		<-ctx.Done()
	})
	b.Start(t)
	conn := dial(t, a, b, transport.Gossip)
	if err := conn.SendDatagram([]byte("small")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "small" {
		t.Errorf("datagram %q", s)
	}
	big := strings.Repeat("b", 100_000)
	var tooLarge *quic.DatagramTooLargeError
	if err := conn.SendDatagram([]byte(big)); !errors.As(err, &tooLarge) {
		t.Errorf("datagram of 100 kB: %v", err)
	}
	if err := conn.SendMessage(t.Context(), []byte(big)); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != big {
		t.Errorf("message of %d bytes", len(s))
	}
}

func TestClose(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := echoNode(t, c), echoNode(t, c)
	conn := dial(t, a, b, transport.RPC)
	var wg sync.WaitGroup
	for range 3 { // concurrent and repeated calls
		wg.Go(func() { _ = a.Close() })
	}
	wg.Wait()
	if conn.Alive() {
		t.Error("a connection outlived its Mux")
	}
	if _, err := a.Dial(t.Context(), b.Addr().String(), transport.RPC, b.ID); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
	if err := a.Serve(); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("serve after close: %v", err)
	}
}

func TestDialGivesUpWithTheCaller(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := c.Node(t), c.Node(t) // b does not serve: the handshake hangs
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Dial(ctx, b.Addr().String(), transport.RPC, b.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestBadAddresses(t *testing.T) {
	a := transporttest.New(t, "blue").Node(t)
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:x", "127.0.0.1:70000", "[::1]:1"} {
		if _, err := a.Dial(t.Context(), addr, transport.RPC, ""); err == nil {
			t.Errorf("dialled %q", addr)
		}
	}
	if _, err := a.Dial(t.Context(), "127.0.0.1:1", transport.Class(99), ""); !errors.Is(err, transport.ErrBadClass) {
		t.Error(err)
	}
}

// A node that no longer hears anybody must learn of it.
func TestSocketFailureIsReported(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b := echoNode(t, c), echoNode(t, c)
	if a.Err() != nil {
		t.Error(a.Err())
	}
	a.Crash()
	receive(t, "the failure is reported", a.Done())
	if a.Err() == nil {
		t.Error("no reason given")
	}
	_ = b.Close()
	receive(t, "the end is reported", b.Done())
	if b.Err() != nil {
		t.Errorf("closed on purpose, and yet %v", b.Err())
	}
	never := c.Node(t)
	_ = never.Close()
	receive(t, "the end of a Mux that never served", never.Done())
}

func TestNamesAndWildcards(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := echoNode(t, c, func(cfg *transport.Config) { cfg.Addr = ":0" })
	_, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{"127.0.0.1:0", ":0"} {
		a := c.Node(t, func(cfg *transport.Config) { cfg.Addr = listen })
		for _, host := range []string{"localhost", "127.0.0.1"} {
			conn, err := a.Dial(t.Context(), net.JoinHostPort(host, port), transport.RPC, b.ID)
			if err != nil {
				t.Errorf("from %s to %s: %v", listen, host, err)
				continue
			}
			if err := ping(conn); err != nil {
				t.Error(err)
			}
		}
	}
}
