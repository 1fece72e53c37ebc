package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/client"
	"holdfast/consensus"
	"holdfast/fsm"
)

// benchCommandBytes is the size of one encoded command in every benchmark, so
// that rates compare.
const benchCommandBytes = 128

// benchNodes runs three nodes in this process, over real sockets and disks,
// and returns them with the leader first.
func benchNodes(b *testing.B, p parts, change func(*Config)) []*Node {
	b.Helper()
	if p.executor == nil {
		p.executor = instant{} // sandboxes would be made ready for nothing
	}
	var nodes []*Node
	for _, name := range []string{"a", "b", "c"} {
		cfg := Defaults()
		cfg.Data, cfg.Name, cfg.Listen = filepath.Join(b.TempDir(), name), name, "127.0.0.1:0"
		cfg.Stable, cfg.Drain = Duration(50*time.Millisecond), Duration(100*time.Millisecond)
		cfg.QueueBound = fsm.DefaultQueueBound
		if change != nil {
			change(&cfg)
		}
		nodes = append(nodes, benchNode(b, cfg, p, nodes))
	}
	benchUntil(b, "three healthy voters", func() bool {
		healthy := 0
		for _, m := range nodes[0].group.Members() {
			if m.Voter && (m.Healthy || m.Leader) {
				healthy++
			}
		}
		return healthy == len(nodes)
	})
	if !nodes[0].group.Leader().Self {
		b.Fatal("the first node lost its office while the others joined")
	}
	return nodes
}

// benchNode makes and starts one node: the cluster's first, or one that joins.
func benchNode(b *testing.B, cfg Config, p parts, nodes []*Node) *Node {
	b.Helper()
	var err error
	if len(nodes) == 0 {
		_, err = Init(b.Context(), cfg)
	} else {
		err = benchJoin(b, cfg, nodes[0])
	}
	if err != nil {
		b.Fatal(err)
	}
	n, err := start(b.Context(), cfg, hclog.NewNullLogger(), p)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			b.Errorf("shutdown of %s: %v", cfg.Name, err)
		}
	})
	benchUntil(b, "node "+cfg.Name, func() bool { return len((backend{n}).NotReady()) == 0 && n.registered.Load() })
	return n
}

func benchJoin(b *testing.B, cfg Config, first *Node) error {
	admin, err := client.New(client.Config{UnixSocket: first.Socket()})
	if err != nil {
		return err
	}
	defer admin.Close()
	token, err := admin.CreateToken(b.Context(), client.TokenRequest{Role: "node", Uses: 1})
	if err != nil {
		return err
	}
	_, err = Join(b.Context(), cfg, token.Secret, []string{first.Addr()})
	return err
}

// benchUntil polls a condition that nothing announces.
func benchUntil(b *testing.B, what string, holds func() bool) {
	b.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("waited too long for %s", what)
		}
	}
}

// benchClients runs n closed-loop clients until b.N operations are done and
// reports their rate.
func benchClients(b *testing.B, n int, do func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

var benchRequests atomic.Uint64

// benchCommand encodes the submission of one task, with a request ID of its
// own, as benchCommandBytes bytes.
func benchCommand() ([]byte, error) {
	const filler = 51
	var id fsm.RequestID
	binary.BigEndian.PutUint64(id[:], benchRequests.Add(1))
	random := make([]byte, filler)
	if _, err := rand.Read(random); err != nil { // entries are compressed: zeros would cost nothing
		return nil, err
	}
	shape := fsm.Shape{Priority: 50, CPUMillis: 500, MemoryBytes: 512 << 20}
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Stdin: random, Shape: shape})
	if err != nil {
		return nil, err
	}
	submit := fsm.Submit{Tasks: []fsm.Submission{{Shape: shape, Spec: spec}}}
	return fsm.NewCommand(fsm.CmdSubmit, id, "bench", submit)
}

// benchPropose commits one command on the leader.
func benchPropose(ctx context.Context, leader *Node) error {
	cmd, err := benchCommand()
	if err != nil {
		return err
	}
	for {
		r, _, err := leader.group.Propose(ctx, cmd)
		switch {
		case errors.Is(err, consensus.ErrOverloaded):
			continue
		case err != nil:
			return err
		case r.Code != fsm.OK:
			return fmt.Errorf("%s: %s", r.Code, r.Detail)
		}
		return nil
	}
}

func TestBenchCommandSize(t *testing.T) {
	cmd, err := benchCommand()
	if err != nil || len(cmd) != benchCommandBytes {
		t.Fatalf("%d bytes, want %d; %v", len(cmd), benchCommandBytes, err)
	}
}
