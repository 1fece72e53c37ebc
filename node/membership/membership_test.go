package membership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what the replicated state would know.
type world struct {
	mu      sync.Mutex
	peers   []Peer
	removed map[string]bool
}

func (w *world) list() []Peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Peer(nil), w.peers...)
}

func (w *world) allowed(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.removed[id]
}

type testNode struct {
	*Membership
	addr  string
	dead  atomic.Int32 // confirmed
	clean func() error // ends it as a crash would
}

func (w *world) start(t *testing.T, id string) *testNode {
	t.Helper()
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, BindPort: 0,
		Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{addr: fmt.Sprintf("127.0.0.1:%d", transport.GetAutoBindPort())}
	m, err := New(Config{ID: id, Meta: Meta{Addr: n.addr, Name: "name of " + id, Version: "v1", Incarnation: 7}, Transport: transport,
		Peers: w.list, Allowed: w.allowed, Rejoin: 200 * time.Millisecond,
		OnDead: func(_ Member, confirmations int) { n.dead.Add(int32(confirmations)) }})
	if err != nil {
		t.Fatal(err)
	}
	n.Membership = m
	var once sync.Once
	n.clean = func() (err error) {
		once.Do(func() {
			m.cancel()
			err = m.list.Shutdown()
			m.group.Wait()
		})
		return err
	}
	t.Cleanup(func() { _ = n.clean() })
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.peers {
		if w.peers[i].ID == id {
			return n // the state still has the old address
		}
	}
	w.peers = append(w.peers, Peer{ID: id, Addr: n.addr})
	return n
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func sees(n *testNode, ids ...string) func() bool {
	return func() bool {
		alive := 0
		for _, m := range n.Members() {
			if m.Alive {
				alive++
			}
		}
		for _, id := range ids {
			if !n.Alive(id) {
				return false
			}
		}
		return alive == len(ids)
	}
}

func TestJoinDieAndMove(t *testing.T) {
	w := &world{removed: map[string]bool{}}
	a, b, c := w.start(t, "a"), w.start(t, "b"), w.start(t, "c")
	for _, n := range []*testNode{a, b, c} {
		await(t, "everybody sees three", sees(n, "a", "b", "c"))
	}
	members := a.Members()
	if got := members[1]; got.ID != "b" || got.Addr != b.addr || got.Meta.Name != "name of b" || got.Meta.Incarnation != 7 {
		t.Errorf("b as a sees it: %+v", got)
	}

	if err := b.clean(); err != nil { // a crash: no goodbye
		t.Fatal(err)
	}
	await(t, "a calls b dead, and confirmed it itself", func() bool { return !a.Alive("b") && a.dead.Load() == 1 })
	if addr, ok := a.Resolve("b"); !ok || addr != b.addr {
		t.Errorf("the dead b resolves to %q, %v", addr, ok)
	}

	moved := w.start(t, "b")
	if moved.addr == b.addr {
		t.Skip("the kernel gave the same port again")
	}
	for _, n := range []*testNode{a, c, moved} {
		await(t, "b is back at another address", sees(n, "a", "b", "c"))
		await(t, "b resolves to it", func() bool { addr, _ := n.Resolve("b"); return addr == moved.addr })
	}
}

// A node that restarts at another address before anybody noticed is in
// conflict with its own old entry.
func TestMoveBeforeDeath(t *testing.T) {
	w := &world{removed: map[string]bool{}}
	a, b := w.start(t, "a"), w.start(t, "b")
	await(t, "a sees b", sees(a, "a", "b"))
	if err := b.clean(); err != nil {
		t.Fatal(err)
	}
	moved := w.start(t, "b")
	await(t, "a sees b at its new address", func() bool { addr, _ := a.Resolve("b"); return addr == moved.addr && a.Alive("b") })
}

// A goodbye travels as a datagram: on a starved machine one may be lost, and
// then the node is rightly called dead. Of three in a row one arrives.
func TestGoodbyeIsNoDeath(t *testing.T) {
	w := &world{removed: map[string]bool{}}
	a := w.start(t, "a")
	for try, id := range []string{"b", "c", "d"} {
		n := w.start(t, id)
		await(t, "a sees "+id, func() bool { return a.Alive(id) })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := n.Close(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		await(t, "a knows that "+id+" is gone", func() bool { return !a.Alive(id) })
		for _, m := range a.Members() {
			if m.ID == id && m.Left {
				if int(a.dead.Load()) != try {
					t.Error("a node that said goodbye was called dead")
				}
				return
			}
		}
	}
	t.Fatal("none of three goodbyes arrived")
}

// guards P6: a removed node does not come back by gossip.
func TestRemovedIsRefused(t *testing.T) {
	w := &world{removed: map[string]bool{"b": true}}
	a, b := w.start(t, "a"), w.start(t, "b")
	c := w.start(t, "c")
	await(t, "a and c see each other", sees(a, "a", "c"))
	await(t, "c and a see each other", sees(c, "a", "c"))
	if _, ok := a.Resolve("b"); ok {
		t.Error("a removed node resolves")
	}
	_ = b
}

func TestSetMeta(t *testing.T) {
	w := &world{removed: map[string]bool{}}
	a, b := w.start(t, "a"), w.start(t, "b")
	await(t, "a sees b", sees(a, "a", "b"))
	meta := Meta{Addr: b.addr, Name: "new", Voter: true}
	if err := b.SetMeta(meta); err != nil {
		t.Fatal(err)
	}
	await(t, "a has b's new description", func() bool { return a.Members()[1].Meta == meta })
	if err := b.SetMeta(Meta{Name: strings.Repeat("x", 600)}); !errors.Is(err, ErrMetaTooLong) {
		t.Errorf("a description of 600 bytes: %v", err)
	}
}

func TestMetaTooLong(t *testing.T) {
	if _, err := New(Config{ID: "a", Meta: Meta{Name: strings.Repeat("x", 600)}}); !errors.Is(err, ErrMetaTooLong) {
		t.Errorf("error %v, want ErrMetaTooLong", err)
	}
}

// guards P10: what a peer says of itself cannot hurt.
func FuzzDecodeMeta(f *testing.F) {
	b, err := Meta{Addr: "127.0.0.1:1", Name: "n", Version: "v", Incarnation: 3, Voter: true}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) { _ = decodeMeta(in) })
}

func TestMetaGolden(t *testing.T) {
	m := Meta{Addr: "127.0.0.1:1", Name: "n", Version: "v", Incarnation: 3, Voter: true}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "a5016b3132372e302e302e313a3102616e036176040305f5"
	if got := fmt.Sprintf("%x", b); got != golden {
		t.Errorf("the encoding changed: %s, want %s", got, golden)
	}
	if decodeMeta(b) != m {
		t.Errorf("read back %+v", decodeMeta(b))
	}
}
