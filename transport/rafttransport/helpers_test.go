package rafttransport

import (
	"context"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// end is one node with its raft transport.
type end struct {
	*Transport
	node *transporttest.Node
	id   raft.ServerID
}

func newEnd(t testing.TB, c *transporttest.Cluster, opts ...func(*Config)) *end {
	t.Helper()
	n := c.Node(t)
	cfg := Config{Mux: n.Mux, LocalAddr: n.Addr().String()}
	for _, o := range opts {
		o(&cfg)
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	n.Start(t)
	return &end{tr, n, raft.ServerID(n.ID)}
}

// pair returns a client and the server that it talks to.
func pair(t testing.TB, opts ...func(*Config)) (client, server *end) {
	t.Helper()
	c := transporttest.New(t, "blue")
	return newEnd(t, c, opts...), newEnd(t, c, opts...)
}

func (e *end) header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(e.id), Addr: []byte(e.LocalAddr())}
}

func (e *end) appendRPC() *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader: e.header(), Term: 10, Leader: []byte(e.LocalAddr()), PrevLogEntry: 100, PrevLogTerm: 4, LeaderCommitIndex: 90,
		Entries: []*raft.Log{
			{Index: 101, Term: 4, Type: raft.LogNoop},
			{Index: 102, Term: 10, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext"),
				AppendedAt: time.Unix(0, 1700000000123456789)},
		},
	}
}

func appendAnswer() *raft.AppendEntriesResponse {
	return &raft.AppendEntriesResponse{Term: 4, LastLog: 90, Success: true, NoRetryBackoff: true}
}

// respond answers every request of the consumer until the test ends.
func respond(t testing.TB, e *end, answer func(raft.RPC) (any, error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-e.Consumer():
				rpc.Respond(answer(rpc))
			case <-ctx.Done():
				return
			}
		}
	}()
}

func recv[T any](t testing.TB, what string, ch <-chan T) T {
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

func (e *end) dialRaft(t testing.TB, to *end) *transport.Conn {
	t.Helper()
	c, err := e.node.Dial(t.Context(), string(to.LocalAddr()), transport.Raft, string(to.id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
