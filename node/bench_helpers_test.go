package node

import (
	"bytes"
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
	"golang.org/x/sys/unix"

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
	before := benchCPU(b)
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
	// Steadier than the rate where neighbours use the machine too.
	b.ReportMetric(float64(benchCPU(b)-before)/float64(b.N)/float64(time.Microsecond), "cpu-us/commit")
}

// benchCPU is the processor time that this process has used.
func benchCPU(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchSource makes commands: the submission of one task, with a request ID
// and a payload of its own, benchCommandBytes long. It fills in a template, so
// that what is measured is the commit and not the encoding.
type benchSource struct {
	template []byte
	id, fill int // where the request ID and the random bytes are
	requests atomic.Uint64
}

const (
	benchFill = 51 // what is left of the command beside all else
	benchTags = "<request-number>" + "<------------------random bytes------------------->"
)

func newBenchSource() (*benchSource, error) {
	var id fsm.RequestID
	copy(id[:], benchTags)
	shape := fsm.Shape{Priority: 50, CPUMillis: 500, MemoryBytes: 512 << 20}
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Stdin: []byte(benchTags[len(id):]), Shape: shape})
	if err != nil {
		return nil, err
	}
	cmd, err := fsm.NewCommand(fsm.CmdSubmit, id, "bench", fsm.Submit{Tasks: []fsm.Submission{{Shape: shape, Spec: spec}}})
	if err != nil {
		return nil, err
	}
	s := &benchSource{template: cmd, id: bytes.Index(cmd, id[:]), fill: bytes.Index(cmd, []byte(benchTags[len(id):]))}
	if s.id < 0 || s.fill < 0 || len(cmd) != benchCommandBytes {
		return nil, fmt.Errorf("a command of %d bytes, want %d: %q", len(cmd), benchCommandBytes, cmd)
	}
	return s, nil
}

// next is the next command.
func (s *benchSource) next() ([]byte, error) {
	cmd := bytes.Clone(s.template)
	binary.BigEndian.PutUint64(cmd[s.id:], s.requests.Add(1))
	// Entries are compressed: zeros would cost nothing.
	_, err := rand.Read(cmd[s.fill : s.fill+benchFill])
	return cmd, err
}

// benchPropose commits one command on the leader.
func benchPropose(ctx context.Context, leader *Node, source *benchSource) error {
	cmd, err := source.next()
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

func TestBenchCommands(t *testing.T) {
	source, err := newBenchSource()
	if err != nil {
		t.Fatal(err)
	}
	state := fsm.New(fsm.Limits{})
	for i := range uint64(3) {
		cmd, err := source.next()
		if err != nil || len(cmd) != benchCommandBytes {
			t.Fatalf("%d bytes, %v", len(cmd), err)
		}
		applied, err := state.Apply(i+1, fsm.EncodeBatch(1, [][]byte{cmd}))
		if err != nil || uint64(applied.Results[0].First) != i+1 { // none is taken for a repeated one
			t.Fatalf("%+v, %v", applied, err)
		}
	}
}
