package rafttransport

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func TestRequests(t *testing.T) {
	a, b := pair(t)
	h := a.header()
	bh := b.header()
	for _, tc := range []struct {
		name         string
		req          any
		answer, into any
		call         func(into any) error
	}{
		{"append entries", a.appendRPC(), appendAnswer(), new(raft.AppendEntriesResponse), func(into any) error {
			return a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), into.(*raft.AppendEntriesResponse))
		}},
		{"vote",
			&raft.RequestVoteRequest{RPCHeader: h, Term: 20, Candidate: []byte("butters"), LastLogIndex: 100, LastLogTerm: 19, LeadershipTransfer: true},
			&raft.RequestVoteResponse{RPCHeader: bh, Term: 100, Peers: []byte("blah"), Granted: true}, new(raft.RequestVoteResponse),
			func(into any) error {
				return a.RequestVote(b.id, b.LocalAddr(), &raft.RequestVoteRequest{RPCHeader: h, Term: 20, Candidate: []byte("butters"),
					LastLogIndex: 100, LastLogTerm: 19, LeadershipTransfer: true}, into.(*raft.RequestVoteResponse))
			}},
		{"pre-vote",
			&raft.RequestPreVoteRequest{RPCHeader: h, Term: 20, LastLogIndex: 100, LastLogTerm: 19},
			&raft.RequestPreVoteResponse{RPCHeader: bh, Term: 100, Granted: true}, new(raft.RequestPreVoteResponse),
			func(into any) error {
				return a.RequestPreVote(b.id, b.LocalAddr(), &raft.RequestPreVoteRequest{RPCHeader: h, Term: 20, LastLogIndex: 100, LastLogTerm: 19},
					into.(*raft.RequestPreVoteResponse))
			}},
		{"timeout now",
			&raft.TimeoutNowRequest{RPCHeader: h}, &raft.TimeoutNowResponse{RPCHeader: bh}, new(raft.TimeoutNowResponse),
			func(into any) error {
				return a.TimeoutNow(b.id, b.LocalAddr(), &raft.TimeoutNowRequest{RPCHeader: h}, into.(*raft.TimeoutNowResponse))
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan any, 1)
			go func() {
				rpc := <-b.Consumer()
				got <- rpc.Command
				rpc.Respond(tc.answer, nil)
			}()
			if err := tc.call(tc.into); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.req, <-got); d != "" {
				t.Errorf("request changed on the way: %s", d)
			}
			if d := cmp.Diff(tc.answer, tc.into); d != "" {
				t.Errorf("answer changed on the way: %s", d)
			}
		})
	}
}

func TestHeartbeatFastPath(t *testing.T) {
	a, b := pair(t)
	got := make(chan any, 4)
	b.SetHeartbeatHandler(func(rpc raft.RPC) {
		got <- rpc.Command
		rpc.Respond(appendAnswer(), nil)
	})
	// Nobody reads b's consumer: raft's main loop is stuck in a write. Votes
	// and entries wait; heartbeats do not.
	beat := &raft.AppendEntriesRequest{RPCHeader: a.header(), Term: 10, Leader: []byte(a.LocalAddr())}
	stuck := make(chan error, 1)
	go func() { stuck <- a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse)) }()
	for range 3 {
		var out raft.AppendEntriesResponse
		if err := a.AppendEntries(b.id, b.LocalAddr(), beat, &out); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(beat, <-got); d != "" || !out.Success {
			t.Errorf("heartbeat: %s %+v", d, out)
		}
	}
	rpc := recv(t, "the request that was stuck", b.Consumer())
	rpc.Respond(appendAnswer(), nil)
	if err := <-stuck; err != nil {
		t.Error(err)
	}
}

// A request that its sender has given up must not reach raft later.
func TestAbandonedRequestIsWithdrawn(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = time.Second })
	err := a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse))
	if err == nil {
		t.Fatal("answered by nobody")
	}
	vote := &raft.RequestVoteRequest{RPCHeader: a.header(), Term: 20}
	var got any
	// The withdrawal travels; what raft may see last is the vote, not the
	// abandoned entries.
	for range 100 {
		done := make(chan error, 1)
		go func() { done <- a.RequestVote(b.id, b.LocalAddr(), vote, new(raft.RequestVoteResponse)) }()
		rpc := recv(t, "a request", b.Consumer())
		got = rpc.Command
		rpc.Respond(&raft.RequestVoteResponse{}, nil)
		<-done
		if _, ok := got.(*raft.RequestVoteRequest); ok {
			return
		}
	}
	t.Fatalf("raft still gets %T", got)
}

func TestRemoteErrors(t *testing.T) {
	a, b := pair(t)
	answers := make(chan raft.RPCResponse, 1)
	respond(t, b, func(raft.RPC) (any, error) {
		r := <-answers
		return r.Response, r.Error
	})
	call := func(resp any, err error) error {
		answers <- raft.RPCResponse{Response: resp, Error: err}
		return a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse))
	}
	var re *RemoteError
	if err := call(nil, raft.ErrLeadershipLost); !errors.As(err, &re) || !errors.Is(err, raft.ErrLeadershipLost) {
		t.Errorf("raft's own error came back as %v", err)
	}
	if n := len(a.pool[a.keyOf(b.id, b.LocalAddr())]); n != 1 {
		t.Errorf("%d pooled streams: an answered error must not cost the stream", n)
	}
	if err := call(nil, errors.New("")); err == nil {
		t.Error("an error without text passed for success")
	}
	if err := call(nil, errors.New(strings.Repeat("x", 1<<20))); err == nil || len(err.Error()) > 2*maxErrorText {
		t.Errorf("the error's text is not bounded: %v", err == nil)
	}
	if err := call("not a response", nil); err == nil {
		t.Error("an answer of a strange type passed for success")
	}
	if err := call(nil, nil); err == nil {
		t.Error("no answer passed for success")
	}
}

// guards P6: a node must not speak for another one, whatever its header says.
func TestHeaderMustMatchCertificate(t *testing.T) {
	a, b := pair(t)
	respond(t, b, func(rpc raft.RPC) (any, error) {
		t.Errorf("raft got %T", rpc.Command)
		return nil, errors.New("no")
	})
	for name, id := range map[string][]byte{"other node": []byte(b.id), "none": nil, "prefix": []byte(a.id)[:10]} {
		h := a.header()
		h.ID = id
		target := b.LocalAddr()
		for what, err := range map[string]error{
			"append":      a.AppendEntries(b.id, target, &raft.AppendEntriesRequest{RPCHeader: h, Term: 1}, new(raft.AppendEntriesResponse)),
			"heartbeat":   a.AppendEntries(b.id, target, &raft.AppendEntriesRequest{RPCHeader: h, Term: 1, Leader: []byte("x")}, new(raft.AppendEntriesResponse)),
			"vote":        a.RequestVote(b.id, target, &raft.RequestVoteRequest{RPCHeader: h, Term: 1}, new(raft.RequestVoteResponse)),
			"pre-vote":    a.RequestPreVote(b.id, target, &raft.RequestPreVoteRequest{RPCHeader: h, Term: 1}, new(raft.RequestPreVoteResponse)),
			"timeout now": a.TimeoutNow(b.id, target, &raft.TimeoutNowRequest{RPCHeader: h}, new(raft.TimeoutNowResponse)),
			"snapshot": a.InstallSnapshot(b.id, target, &raft.InstallSnapshotRequest{RPCHeader: h, Size: 4}, new(raft.InstallSnapshotResponse),
				strings.NewReader("data")),
		} {
			if err == nil {
				t.Errorf("%s in the name of %s was served", what, name)
			}
		}
	}
}

func TestWrongNodeAtAddress(t *testing.T) {
	a, b := pair(t)
	err := a.AppendEntries(a.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse))
	if !errors.Is(err, transport.ErrWrongNode) {
		t.Error(err)
	}
}

func TestPooledStreams(t *testing.T) {
	a, b := pair(t)
	respond(t, b, func(raft.RPC) (any, error) { return appendAnswer(), nil })
	var wg sync.WaitGroup
	for range 4 * poolSize {
		wg.Go(func() {
			if err := a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	key := a.keyOf(b.id, b.LocalAddr())
	if n := len(a.pool[key]); n < 1 || n > poolSize {
		t.Errorf("%d pooled streams, want 1 to %d", n, poolSize)
	}
	// A pooled stream of a connection that ended must not be tried.
	_ = a.dialRaft(t, b).Close()
	transporttest.Eventually(t, "the connection is gone", func() bool {
		return a.node.Peek(key.addr, transport.Raft, key.id) == nil
	})
	if err := a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
		t.Error(err)
	}
}

func TestResolveFindsTheNewAddress(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := newEnd(t, c)
	respond(t, b, func(raft.RPC) (any, error) { return appendAnswer(), nil })
	a := newEnd(t, c, func(cfg *Config) {
		cfg.Resolve = func(id string) (string, bool) { return string(b.LocalAddr()), id == string(b.id) }
	})
	if err := a.AppendEntries(b.id, "127.0.0.1:1", a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
		t.Error(err)
	}
	p, err := a.AppendEntriesPipeline(b.id, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
}

func TestEncodeDecodePeer(t *testing.T) {
	a, _ := pair(t)
	if got := a.DecodePeer(a.EncodePeer("id1", a.LocalAddr())); got != a.LocalAddr() {
		t.Errorf("%q became %q", a.LocalAddr(), got)
	}
}

func TestInject(t *testing.T) {
	a, _ := pair(t)
	got := make(chan any, 1)
	go func() {
		rpc := <-a.Consumer()
		got <- rpc.Command
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}()
	if err := a.InjectTimeoutNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := &raft.TimeoutNowRequest{RPCHeader: a.header()}
	if d := cmp.Diff(any(want), <-got); d != "" {
		t.Error(d)
	}
	_ = a.Close()
	if err := a.InjectTimeoutNow(t.Context()); !errors.Is(err, raft.ErrTransportShutdown) {
		t.Errorf("after close: %v", err)
	}
}

func TestCloseFreesWaiters(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = time.Hour }) // only Close can free them
	errs := make(chan error, 2)
	go func() { errs <- a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse)) }()
	go func() {
		errs <- a.InstallSnapshot(b.id, b.LocalAddr(), &raft.InstallSnapshotRequest{RPCHeader: a.header(), Size: 1}, new(raft.InstallSnapshotResponse), strings.NewReader("x"))
	}()
	for range 2 {
		recv(t, "a request arrives", b.Consumer()) // and is never answered
	}
	_ = a.Close()
	for range 2 {
		if err := recv(t, "a waiter is free", errs); err == nil {
			t.Error("success without an answer")
		}
	}
	if err := a.AppendEntries(b.id, b.LocalAddr(), a.appendRPC(), new(raft.AppendEntriesResponse)); err == nil {
		t.Error("a closed transport sent a request")
	}
	if _, err := a.AppendEntriesPipeline(b.id, b.LocalAddr()); err == nil {
		t.Error("a closed transport opened a pipeline")
	}
}

func TestConfig(t *testing.T) {
	n := transporttest.New(t, "blue").Node(t)
	for name, cfg := range map[string]Config{
		"nothing":  {},
		"no addr":  {Mux: n.Mux},
		"inflight": {Mux: n.Mux, LocalAddr: "x:1", InFlight: maxInFlight + 1},
		"negative": {Mux: n.Mux, LocalAddr: "x:1", InFlight: -1},
		"timeout":  {Mux: n.Mux, LocalAddr: "x:1", Timeout: -1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
