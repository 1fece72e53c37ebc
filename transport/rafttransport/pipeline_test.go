package rafttransport

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"holdfast/transport/internal/transporttest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

func openPipeline(t *testing.T, a, b *end) raft.AppendPipeline {
	t.Helper()
	p, err := a.AppendEntriesPipeline(b.id, b.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestPipeline(t *testing.T) {
	a, b := pair(t)
	respond(t, b, func(rpc raft.RPC) (any, error) {
		if d := cmp.Diff(any(a.appendRPC()), rpc.Command); d != "" {
			return nil, errors.New(d)
		}
		return appendAnswer(), nil
	})
	p := openPipeline(t, a, b)
	const n = 50
	go func() {
		for range n {
			if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
				t.Error(err)
			}
		}
	}()
	for range n {
		f := recv(t, "an answer", p.Consumer())
		if err := f.Error(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(appendAnswer(), f.Response()); d != "" || f.Start().IsZero() || f.Request().Term != 10 {
			t.Error(d)
		}
	}
}

func TestPipelineInFlight(t *testing.T) {
	for _, n := range []int{0, 1, 2, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a, b := pair(t, func(c *Config) { c.InFlight = n })
			if n == 1 {
				if _, err := a.AppendEntriesPipeline(b.id, b.LocalAddr()); !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
					t.Fatal(err)
				}
				return
			}
			want := n
			if n == 0 {
				want = defaultInFlight
			}
			p := openPipeline(t, a, b).(*pipeline)
			for range want {
				if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
					t.Fatal(err)
				}
			}
			// All slots are taken: nothing answers. One answer frees one.
			if free := cap(p.slots) - len(p.slots); free != 0 {
				t.Fatalf("%d free slots with %d in flight", free, want)
			}
			sent := make(chan error, 1)
			go func() {
				_, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse))
				sent <- err
			}()
			rpc := recv(t, "a request", b.Consumer())
			rpc.Respond(appendAnswer(), nil)
			recv(t, "an answer", p.Consumer())
			if err := recv(t, "the waiting request is sent", sent); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// guards P1, P5: hashicorp/raft issue 612. After an answer on which raft's
// decoder leaves, a further AppendEntries must fail instead of waiting for a
// reader that never comes, otherwise the follower is never replicated to again
// while its heartbeats go on.
func TestPipelineDoesNotWedge(t *testing.T) {
	for name, answer := range map[string]*raft.AppendEntriesResponse{
		"no success": {Term: 4},
		"newer term": {Term: 11, Success: true},
		"error":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			// A timeout that the test would not survive: the end must come from
			// the answer alone.
			a, b := pair(t, func(c *Config) { c.Timeout = time.Hour })
			respond(t, b, func(raft.RPC) (any, error) {
				if answer == nil {
					return nil, errors.New("disk full")
				}
				return answer, nil
			})
			p := openPipeline(t, a, b)
			if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
				t.Fatal(err)
			}
			f := recv(t, "the answer", p.Consumer())
			if err := f.Error(); (err != nil) != (answer == nil) {
				t.Error(err)
			}
			// raft's decoder has left here: nobody reads Consumer from now on.
			ended := make(chan error, 1)
			go func() {
				for {
					if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
						ended <- err
						return
					}
				}
			}()
			recv(t, "the pipeline refuses", ended)
		})
	}
}

// Whatever the reason for which nobody reads the answers: the sender is freed.
func TestPipelineWithoutReaderEnds(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = time.Second })
	respond(t, b, func(raft.RPC) (any, error) { return appendAnswer(), nil })
	p := openPipeline(t, a, b)
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
				ended <- err
				return
			}
		}
	}()
	recv(t, "the pipeline ends", ended)
}

func TestPipelineFailsWhatIsInFlight(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = time.Hour })
	p := openPipeline(t, a, b)
	var futures []raft.AppendFuture
	for range 2 {
		f, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse))
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, f)
	}
	_ = p.Close()
	for _, f := range futures {
		done := make(chan error, 1)
		go func() { done <- f.Error() }()
		if err := recv(t, "a future in flight fails", done); err == nil {
			t.Error("success without an answer")
		}
	}
	if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); !errors.Is(err, raft.ErrPipelineShutdown) {
		t.Error(err)
	}
}

func TestPipelineEndsWithItsPeer(t *testing.T) {
	a, b := pair(t)
	p := openPipeline(t, a, b)
	if _, err := p.AppendEntries(a.appendRPC(), new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	_ = b.node.Close()
	if err := recv(t, "the request fails", p.Consumer()).Error(); err == nil {
		t.Error("answered by a closed peer")
	}
}

// Requests for more entries than fit into a frame are cut, and nothing that
// was sent is more than the library believes.
func TestLargeRequestsAreCut(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timeout = transporttest.Patience }) // megabytes on a busy machine
	entry := func(i uint64, n int) *raft.Log { return &raft.Log{Index: i, Term: 1, Data: make([]byte, n)} }
	got := make(chan int, 1)
	respond(t, b, func(rpc raft.RPC) (any, error) {
		got <- len(rpc.Command.(*raft.AppendEntriesRequest).Entries)
		return appendAnswer(), nil
	})
	for name, tc := range map[string]struct {
		entries []*raft.Log
		want    int
	}{
		"small":         {[]*raft.Log{entry(1, 10), entry(2, 10)}, 2},
		"one too many":  {[]*raft.Log{entry(1, softFrame/2), entry(2, softFrame/2), entry(3, 1)}, 1},
		"one huge":      {[]*raft.Log{entry(1, softFrame+1), entry(2, 1)}, 1},
		"huge is later": {[]*raft.Log{entry(1, 1), entry(2, softFrame+1)}, 1},
	} {
		q := &raft.AppendEntriesRequest{RPCHeader: a.header(), Term: 1, Entries: tc.entries}
		if err := a.AppendEntries(b.id, b.LocalAddr(), q, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(name, err)
		}
		if n := <-got; n != tc.want || len(q.Entries) != n {
			t.Errorf("%s: %d entries arrived, %d of the request are left, want %d", name, n, len(q.Entries), tc.want)
		}
	}
	q := &raft.AppendEntriesRequest{RPCHeader: a.header(), Term: 1, Entries: []*raft.Log{entry(1, maxFrame)}}
	if err := a.AppendEntries(b.id, b.LocalAddr(), q, new(raft.AppendEntriesResponse)); !errors.Is(err, ErrFrameTooLarge) {
		t.Error(err)
	}
}

// A vote must not wait behind log data that the follower does not take.
func TestVoteOvertakesData(t *testing.T) {
	a, b := pair(t)
	p := openPipeline(t, a, b)
	q := a.appendRPC()
	q.Entries[1].Data = make([]byte, 4<<20)
	if _, err := p.AppendEntries(q, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	stuck := recv(t, "the entries", b.Consumer()) // and raft is busy with them
	vote := make(chan error, 1)
	go func() {
		vote <- a.RequestVote(b.id, b.LocalAddr(), &raft.RequestVoteRequest{RPCHeader: a.header(), Term: 11}, new(raft.RequestVoteResponse))
	}()
	rpc := recv(t, "the vote", b.Consumer())
	rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
	if err := recv(t, "the vote's answer", vote); err != nil {
		t.Error(err)
	}
	stuck.Respond(appendAnswer(), nil)
	recv(t, "the entries' answer", p.Consumer())
}

func BenchmarkAppendEntries(b *testing.B) {
	for _, size := range []int{128, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			x, y := pair(b)
			respond(b, y, func(raft.RPC) (any, error) { return appendAnswer(), nil })
			q := x.appendRPC()
			q.Entries[1].Data = make([]byte, size)
			var out raft.AppendEntriesResponse
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := x.AppendEntries(y.id, y.LocalAddr(), q, &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
