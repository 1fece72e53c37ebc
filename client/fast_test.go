package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"holdfast/client"
	"holdfast/client/clienttest"
	"holdfast/client/frames"
)

// rpcNode is the server half of the RPC, several of which share one rpcState.
type rpcNode struct {
	*rpcState
	tr   *quic.Transport
	ln   *quic.Listener
	work sync.WaitGroup
	stop context.CancelFunc
}

type rpcState struct {
	mu       sync.Mutex
	next     uint64
	effects  map[string]uint64 // request ID to first task
	requests int
	refuse   []frames.Code // answers for the next requests
	drop     int           // break the connection after that many more effects, unanswered
	silent   bool          // requests take effect and are not answered
	token    string
}

func startRPC(t *testing.T, ca *clienttest.CA, st *rpcState) *rpcNode {
	t.Helper()
	cert, err := ca.Issue("spiffe://test/node/n")
	if err != nil {
		t.Fatal(err)
	}
	// The transport is this server's own: that of quic.ListenAddr goes on
	// reading for three probe timeouts after its last connection has ended.
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: socket}
	ln, err := tr.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{frames.ALPN}, MinVersion: tls.VersionTLS13}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &rpcNode{rpcState: st, tr: tr, ln: ln, stop: cancel}
	n.work.Go(func() {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return
			}
			n.work.Go(func() {
				n.serve(ctx, conn)
				_ = conn.CloseWithError(0, "")
			})
		}
	})
	t.Cleanup(n.close)
	return n
}

func (n *rpcNode) close() {
	n.stop()
	n.ln.Close()
	n.work.Wait()
	n.tr.Close()
	n.tr.Conn.Close()
}

func (n *rpcNode) serve(ctx context.Context, conn *quic.Conn) {
	s, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseWithError(1, "down") })
	defer stop()
	in := frames.NewReader(s)
	var h frames.Hello
	if in.Next(&h) != nil {
		return
	}
	send := func(v any) bool {
		b, err := frames.Append(nil, v)
		if err != nil {
			return false
		}
		_, err = s.Write(b)
		return err == nil
	}
	if h.Token != n.token {
		send(frames.Welcome{Code: frames.Unauthenticated, Detail: "unknown token"})
		<-conn.Context().Done()
		return
	}
	if !send(frames.Welcome{InFlight: 32, Index: 1}) {
		return
	}
	for {
		var r frames.Request
		if in.Next(&r) != nil {
			return
		}
		a, ok, mute := n.apply(&r)
		if !ok || !mute && !send(a) {
			return
		}
	}
}

func (n *rpcState) apply(r *frames.Request) (a frames.Answer, ok, mute bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.requests++
	a, mute = frames.Answer{Number: r.Number}, n.silent
	if len(n.refuse) > 0 {
		a.Code, n.refuse = n.refuse[0], n.refuse[1:]
		a.Detail = "injected"
		return a, true, mute
	}
	for _, b := range r.Specs {
		if s, err := client.DecodeSpec(b); err != nil || len(s.Command) == 0 {
			a.Code, a.Detail = frames.Invalid, "command is empty"
			return a, true, mute
		}
	}
	first, again := n.effects[r.Key]
	if !again {
		first = n.next + 1
		n.next += uint64(len(r.Specs))
		n.effects[r.Key] = first
		if n.drop > 0 {
			if n.drop--; n.drop == 0 {
				return a, false, mute
			}
		}
	}
	a.First, a.Count, a.Index = first, uint32(len(r.Specs)), 100+n.next
	return a, true, mute
}

func (n *rpcState) counts() (tasks uint64, requests int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.next, n.requests
}

func (n *rpcState) inject(drop int, refuse ...frames.Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop, n.refuse = drop, refuse
}

func rpcCluster(t *testing.T, nodes int) ([]*rpcNode, client.Config) {
	t.Helper()
	ca, err := clienttest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	st := &rpcState{effects: map[string]uint64{}, token: "hf_a_b"}
	cfg := quick(client.Config{CAPin: ca.Pin(), Token: st.token})
	var out []*rpcNode
	for range nodes {
		n := startRPC(t, ca, st)
		out = append(out, n)
		cfg.Addrs = append(cfg.Addrs, n.ln.Addr().String())
	}
	return out, cfg
}

func fast(t *testing.T, cfg client.Config) *client.Fast {
	t.Helper()
	f, err := client.NewFast(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func TestFastPipelines(t *testing.T) {
	nodes, cfg := rpcCluster(t, 1)
	f := fast(t, cfg)
	const callers, calls = 64, 20
	seen := make(chan client.Submitted, callers*calls)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				s, err := f.Submit(t.Context(), []client.TaskSpec{echo("a"), echo("b")})
				if err != nil {
					t.Error(err)
					return
				}
				seen <- s
			}
		})
	}
	wg.Wait()
	close(seen)
	ids := map[string]bool{}
	for s := range seen {
		for i := range s.Count {
			ids[s.ID(i)] = true
		}
	}
	if _, n := nodes[0].counts(); len(ids) != 2*callers*calls || n != callers*calls {
		t.Errorf("%d tasks from %d requests, want %d from %d", len(ids), n, 2*callers*calls, callers*calls)
	}
	if f.LastIndex() != 100+uint64(len(ids)) {
		t.Errorf("last index %d", f.LastIndex())
	}
}

func TestFastFailsOverWithOneEffect(t *testing.T) {
	// guards P1: what was in flight when the connection broke takes effect once.
	nodes, cfg := rpcCluster(t, 3)
	nodes[0].inject(50)
	f := fast(t, cfg)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				if _, err := f.Submit(t.Context(), []client.TaskSpec{echo(fmt.Sprint(i, j))}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if tasks, n := nodes[0].counts(); tasks != 320 || n <= 320 {
		t.Errorf("%d tasks from %d requests, want 320 from more", tasks, n)
	}
}

func TestFastSurvivesANodesEnd(t *testing.T) {
	nodes, cfg := rpcCluster(t, 2)
	f := fast(t, cfg)
	for i := range 4 {
		if i == 2 {
			nodes[0].close()
		}
		if _, err := f.Submit(t.Context(), []client.TaskSpec{echo("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if n, _ := nodes[0].counts(); n != 4 {
		t.Errorf("%d tasks, want 4", n)
	}
}

func TestFastRefusals(t *testing.T) {
	nodes, cfg := rpcCluster(t, 1)
	ctx := t.Context()
	t.Run("repeated when it may help", func(t *testing.T) {
		nodes[0].inject(0, frames.Unavailable, frames.Overloaded, frames.QueueFull)
		if _, err := fast(t, cfg).Submit(ctx, []client.TaskSpec{echo("x")}); err != nil {
			t.Error(err)
		}
	})
	t.Run("definite", func(t *testing.T) {
		_, before := nodes[0].counts()
		_, err := fast(t, cfg).Submit(ctx, []client.TaskSpec{{}})
		if _, n := nodes[0].counts(); !client.IsInvalid(err) || n != before+1 {
			t.Errorf("%v after %d requests", err, n-before)
		}
	})
	t.Run("token", func(t *testing.T) {
		cfg := cfg
		cfg.Token = "hf_wrong"
		if _, err := fast(t, cfg).Submit(ctx, []client.TaskSpec{echo("x")}); !client.IsUnauthenticated(err) {
			t.Error(err)
		}
	})
	t.Run("trust", func(t *testing.T) {
		other, err := clienttest.NewCA()
		if err != nil {
			t.Fatal(err)
		}
		cfg := cfg
		cfg.CAPin = other.Pin()
		if _, err := fast(t, cfg).Submit(ctx, []client.TaskSpec{echo("x")}); !errors.Is(err, client.ErrUntrusted) {
			t.Error(err)
		}
	})
	t.Run("bounds", func(t *testing.T) {
		f := fast(t, cfg)
		if _, err := f.Submit(ctx, nil); err == nil {
			t.Error("nothing was submitted")
		}
		if _, err := f.Submit(ctx, make([]client.TaskSpec, 1001)); err == nil {
			t.Error("1001 specs were submitted")
		}
	})
	t.Run("closed", func(t *testing.T) {
		f := fast(t, cfg)
		f.Close()
		if _, err := f.Submit(ctx, []client.TaskSpec{echo("x")}); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
		defer cancel()
		if _, err := fast(t, cfg).Submit(ctx, []client.TaskSpec{echo("x")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
