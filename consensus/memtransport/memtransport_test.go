package memtransport

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers every request to a transport until the network closes.
func echo(n *Network, t *Transport, seen chan<- raft.RPC) {
	for {
		select {
		case rpc := <-t.Consumer():
			seen <- rpc
			switch cmd := rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Respond(&raft.AppendEntriesResponse{Term: cmd.Term, Success: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{Term: cmd.Term}, nil)
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{Term: cmd.Term}, nil)
			case *raft.TimeoutNowRequest:
				rpc.Respond(nil, errors.New("not now"))
			case *raft.InstallSnapshotRequest:
				b, err := io.ReadAll(rpc.Reader)
				rpc.Respond(&raft.InstallSnapshotResponse{Term: uint64(len(b))}, err)
			}
		case <-n.closing:
			return
		}
	}
}

// pair runs two nodes, a that calls and b that answers.
func pair(t *testing.T, latency time.Duration, body func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(100*time.Millisecond, latency)
		a, b := n.Join("a"), n.Join("b")
		seen := make(chan raft.RPC, 100)
		go echo(n, b, seen)
		defer n.Close()
		body(t, n, a, b, seen)
	})
}

func appendTo(a *Transport, term uint64) (uint64, error) {
	var resp raft.AppendEntriesResponse
	err := a.AppendEntries("b", "b", &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 1}, &resp)
	return resp.Term, err
}

func TestRequestsAndAnswers(t *testing.T) {
	pair(t, 3*time.Millisecond, func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC) {
		start := time.Now()
		if term, err := appendTo(a, 7); err != nil || term != 7 {
			t.Fatalf("%d, %v", term, err)
		}
		if took := time.Since(start); took != 6*time.Millisecond {
			t.Errorf("a round trip took %v", took)
		}
		var v raft.RequestVoteResponse
		if err := a.RequestVote("b", "b", &raft.RequestVoteRequest{Term: 8}, &v); err != nil || v.Term != 8 {
			t.Errorf("vote: %d, %v", v.Term, err)
		}
		var p raft.RequestPreVoteResponse
		if err := a.RequestPreVote("b", "b", &raft.RequestPreVoteRequest{Term: 9}, &p); err != nil || p.Term != 9 {
			t.Errorf("pre-vote: %d, %v", p.Term, err)
		}
		var s raft.InstallSnapshotResponse
		if err := a.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{}, &s, strings.NewReader("12345")); err != nil || s.Term != 5 {
			t.Errorf("snapshot: %d, %v", s.Term, err)
		}
		if err := a.TimeoutNow("b", "b", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err == nil {
			t.Error("the receiver's error is lost")
		}
		if _, err := a.AppendEntriesPipeline("b", "b"); err != raft.ErrPipelineReplicationNotSupported {
			t.Error(err)
		}
		if got := a.DecodePeer(a.EncodePeer("b", "b")); got != "b" {
			t.Errorf("peer %q", got)
		}
		if err := a.RequestVote("c", "c", &raft.RequestVoteRequest{}, &v); !errors.Is(err, errRefused) {
			t.Errorf("an unknown node: %v", err)
		}
	})
}

func TestFates(t *testing.T) {
	for _, c := range []struct {
		name    string
		fate    Fate
		arrives bool
		err     error
		took    time.Duration
	}{
		{"deliver", Deliver, true, nil, 0},
		{"drop", Drop, false, errTimeout, 100 * time.Millisecond},
		{"drop the reply", DropReply, true, errTimeout, 100 * time.Millisecond},
		{"refuse", Refuse, false, errRefused, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			pair(t, 0, func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC) {
				n.SetFate(func(m Message) Fate {
					if m.From != "a" {
						return Deliver
					}
					return c.fate
				})
				start := time.Now()
				_, err := appendTo(a, 1)
				if !errors.Is(err, c.err) || time.Since(start) != c.took {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(start), c.err, c.took)
				}
				if (len(seen) == 1) != c.arrives {
					t.Errorf("%d requests arrived", len(seen))
				}
			})
		})
	}
}

func TestSwallowLastsUntilTheEnd(t *testing.T) {
	pair(t, 0, func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC) {
		n.SetFate(func(Message) Fate { return Swallow })
		done := make(chan error, 1)
		go func() { _, err := appendTo(a, 1); done <- err }()
		<-time.After(time.Hour)
		select {
		case err := <-done:
			t.Fatalf("came back with %v", err)
		default:
		}
		n.Close()
		if err := <-done; err == nil {
			t.Fatal("no error")
		}
	})
}

func TestPartitionHealAndClose(t *testing.T) {
	pair(t, 0, func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC) {
		n.Partition([]raft.ServerAddress{"a"}, []raft.ServerAddress{"b"})
		if _, err := appendTo(a, 1); !errors.Is(err, errTimeout) {
			t.Errorf("across a partition: %v", err)
		}
		n.Partition([]raft.ServerAddress{"a", "b"})
		if _, err := appendTo(a, 1); err != nil {
			t.Errorf("on one side: %v", err)
		}
		n.Partition([]raft.ServerAddress{"a"})
		if _, err := appendTo(a, 1); !errors.Is(err, errTimeout) {
			t.Errorf("to a node in no group: %v", err)
		}
		n.Heal()
		b.Cut("test")
		if _, err := appendTo(a, 1); !errors.Is(err, errRefused) {
			t.Errorf("to a node that is cut: %v", err)
		}
		_ = a.Close()
		if _, err := appendTo(a, 1); !errors.Is(err, errRefused) {
			t.Errorf("from a closed node: %v", err)
		}
	})
}

func TestHeartbeatsTakeTheFastPath(t *testing.T) {
	pair(t, 0, func(t *testing.T, n *Network, a, b *Transport, seen chan raft.RPC) {
		b.SetHeartbeatHandler(func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Term: 42}, nil) })
		var resp raft.AppendEntriesResponse
		if err := a.AppendEntries("b", "b", &raft.AppendEntriesRequest{Term: 1}, &resp); err != nil || resp.Term != 42 {
			t.Errorf("%d, %v", resp.Term, err)
		}
		if len(seen) != 0 {
			t.Error("a heartbeat went through the queue")
		}
	})
}
