package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inboxDelegate keeps the user messages.
type inboxDelegate struct {
	mu   sync.Mutex
	msgs []string
}

func (d *inboxDelegate) NodeMeta(int) []byte             { return nil }
func (d *inboxDelegate) GetBroadcasts(_, _ int) [][]byte { return nil }
func (d *inboxDelegate) LocalState(bool) []byte          { return bytes.Repeat([]byte("state"), 10_000) }
func (d *inboxDelegate) MergeRemoteState(b []byte, _ bool) {
	d.NotifyMsg(fmt.Appendf(nil, "state of %d bytes", len(b)))
}

func (d *inboxDelegate) NotifyMsg(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.msgs = append(d.msgs, string(b))
}

func (d *inboxDelegate) has(want ...string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range want {
		if !slices.Contains(d.msgs, w) {
			return false
		}
	}
	return true
}

type member struct {
	*memberlist.Memberlist
	node  *transporttest.Node
	tr    *Transport
	inbox *inboxDelegate
}

func newTransport(t *testing.T, c *transporttest.Cluster) (*transporttest.Node, *Transport) {
	t.Helper()
	n := c.Node(t)
	tr, err := New(Config{Mux: n.Mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Shutdown() })
	n.Start(t)
	return n, tr
}

func newMember(t *testing.T, c *transporttest.Cluster) *member {
	t.Helper()
	m := &member{inbox: &inboxDelegate{}}
	m.node, m.tr = newTransport(t, c)
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = m.node.ID
	cfg.Transport = m.tr
	cfg.UDPBufferSize = PacketSize
	cfg.Delegate = m.inbox
	cfg.BindPort, cfg.AdvertisePort = 0, 0
	cfg.RequireNodeNames = true
	cfg.EnableCompression = false // a large packet is to stay large
	cfg.ProbeInterval, cfg.ProbeTimeout, cfg.GossipInterval = 100*time.Millisecond, 80*time.Millisecond, 20*time.Millisecond
	cfg.SuspicionMult, cfg.SuspicionMaxTimeoutMult = 2, 2
	cfg.Logger = log.New(io.Discard, "", 0)
	var err error
	if m.Memberlist, err = memberlist.Create(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return m
}

func (m *member) addr() string { return m.node.ID + "/" + m.node.Addr().String() }

func (m *member) member(id string) *memberlist.Node {
	for _, n := range m.Members() {
		if n.Name == id {
			return n
		}
	}
	return nil
}

func TestJoinSendAndLeave(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, b, d := newMember(t, c), newMember(t, c), newMember(t, c)
	for _, m := range []*member{b, d} {
		if n, err := m.Join([]string{a.addr()}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	all := []*member{a, b, d}
	for _, m := range all {
		transporttest.Eventually(t, "everyone knows three members", func() bool { return m.NumMembers() == 3 })
	}
	if !a.inbox.has("state of 50000 bytes") {
		t.Error("push/pull did not carry the delegate's state")
	}

	// Between members that never joined each other directly.
	to := b.member(d.node.ID)
	large := string(bytes.Repeat([]byte("L"), 20_000))
	for what, err := range map[string]error{
		"packet":       b.SendBestEffort(to, []byte("packet")),
		"large packet": b.SendBestEffort(to, []byte(large)),
		"stream":       b.SendReliable(to, []byte("stream")),
		"large stream": b.SendReliable(to, []byte("stream"+large)),
		"address":      b.SendToAddress(to.FullAddress(), []byte("address")),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	transporttest.Eventually(t, "all messages arrived", func() bool {
		return d.inbox.has("packet", large, "stream", "stream"+large, "address")
	})
	transporttest.Eventually(t, "packets went as datagrams, the large one as a stream", func() bool {
		s := b.tr.Stats()
		return s.Datagrams > 0 && s.Streams == 1
	})

	// The end of a process, without a word.
	d.node.Crash()
	for _, m := range []*member{a, b} {
		transporttest.Eventually(t, "the crash is noticed", func() bool { return m.NumMembers() == 2 })
	}
}

// guards P6: nobody reads what was meant for the node that it replaced.
func TestNamesAreChecked(t *testing.T) {
	c := transporttest.New(t, "blue")
	a, ta := newTransport(t, c)
	b, tb := newTransport(t, c)
	wrong := memberlist.Address{Addr: b.Addr().String(), Name: a.ID}
	if _, err := ta.DialAddressTimeout(wrong, transporttest.Patience); !errors.Is(err, transport.ErrWrongNode) {
		t.Error(err)
	}
	if _, err := ta.WriteToAddress([]byte("secret"), wrong); err != nil {
		t.Error(err)
	}
	transporttest.Eventually(t, "the packet is dropped", func() bool { return ta.Stats().Dropped == 1 })
	if _, err := ta.WriteToAddress([]byte("hello"), memberlist.Address{Addr: b.Addr().String(), Name: b.ID}); err != nil {
		t.Error(err)
	}
	p := <-tb.PacketCh()
	if string(p.Buf) != "hello" || p.From.String() != a.Addr().String() || p.Timestamp.IsZero() {
		t.Errorf("%q from %v", p.Buf, p.From)
	}
}

// WriteTo is called from memberlist's probe loop.
func TestWriteToNeverBlocks(t *testing.T) {
	c := transporttest.New(t, "blue")
	_, tr := newTransport(t, c)
	silent := c.Node(t) // does not serve: handshakes hang
	for range 2 * queueLength {
		if _, err := tr.WriteTo([]byte("x"), silent.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	if d := tr.Stats().Dropped; d < queueLength-1 {
		t.Errorf("%d dropped of %d: the queue is not bounded", d, 2*queueLength)
	}
	for _, b := range [][]byte{nil, make([]byte, maxMessage+1)} {
		if _, err := tr.WriteTo(b, silent.Addr().String()); err == nil {
			t.Errorf("packet of %d bytes accepted", len(b))
		}
	}
	_ = tr.Shutdown()
	if _, err := tr.WriteTo([]byte("x"), silent.Addr().String()); !errors.Is(err, ErrShutdown) {
		t.Error(err)
	}
}

// guards P10: a peer cannot make us hold more than the bound.
func TestOversizedMessageIsLost(t *testing.T) {
	c := transporttest.New(t, "blue")
	a := c.Node(t)
	b, tb := newTransport(t, c)
	conn, err := a.Dial(t.Context(), b.Addr().String(), transport.Gossip, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SendMessage(t.Context(), make([]byte, maxMessage+1)) // may be cut off
	transporttest.Eventually(t, "it is lost", func() bool { return tb.Stats().Lost == 1 })
	if err := conn.SendMessage(t.Context(), nil); err != nil {
		t.Error(err)
	}
	transporttest.Eventually(t, "the empty one is lost", func() bool { return tb.Stats().Lost == 2 })
	if err := conn.SendMessage(t.Context(), []byte("next")); err != nil {
		t.Error(err)
	}
	if p := <-tb.PacketCh(); string(p.Buf) != "next" {
		t.Errorf("%q", p.Buf)
	}
}

func TestFinalAdvertiseAddr(t *testing.T) {
	c := transporttest.New(t, "blue")
	n, tr := newTransport(t, c)
	for _, tc := range []struct {
		ip   string
		port int
		want string
	}{{"", 0, n.Addr().String()}, {"10.1.2.3", 99, "10.1.2.3:99"}, {"nonsense", 1, ""}} {
		ip, port, err := tr.FinalAdvertiseAddr(tc.ip, tc.port)
		if got := fmt.Sprintf("%v:%d", ip, port); (err != nil) != (tc.want == "") || err == nil && got != tc.want {
			t.Errorf("%q: %s %v", tc.ip, got, err)
		}
	}
	wild := c.Node(t, func(cfg *transport.Config) { cfg.Addr = "0.0.0.0:0" })
	tw, err := New(Config{Mux: wild.Mux})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tw.FinalAdvertiseAddr("", 0); err == nil {
		t.Error("advertised the wildcard address")
	}
}
