package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/consensus/memtransport"
	"holdfast/fsm"
)

// slowLogs take as long as a disk's fsync; zero is memory.
type slowLogs struct {
	raft.LogStore
	fsync time.Duration
}

func (s slowLogs) StoreLogs(l []*raft.Log) error {
	if s.fsync > 0 {
		time.Sleep(s.fsync)
	}
	return s.LogStore.StoreLogs(l)
}

// benchCluster runs three nodes in this process on the real clock, with stores
// and network in memory: what is left is the cost of the code, and the fsync
// if there is one. The timers are long, since neighbours may hog the machine.
func benchCluster(b *testing.B, fsync time.Duration) *Group {
	b.Helper()
	c := newCluster(b, 3, 3, func(cfg *Config) {
		cfg.Timing = Timing{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: 2 * time.Second}
	})
	for _, nd := range c.nodes {
		nd.logs = slowLogs{nd.logs, fsync}
	}
	c.net = memtransport.New(time.Second, 0)
	c.startAll()
	for _, nd := range c.nodes {
		nd.state.mu.Lock()
		nd.state.raw = true
		nd.state.mu.Unlock()
	}
	b.Cleanup(c.stopAll)
	return c.leader().group
}

const benchCommandBytes = 128

// clients runs n closed-loop clients until b.N operations are done.
func clients(b *testing.B, n int, do func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
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
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

func BenchmarkGroupCommit(b *testing.B) {
	benchSizes(b, func(b *testing.B, n int, fsync time.Duration) {
		g := benchCluster(b, fsync)
		cmd := make([]byte, benchCommandBytes)
		clients(b, n, func() error {
			_, _, err := g.Propose(context.Background(), cmd)
			return err
		})
	})
}

// BenchmarkStock is one command per entry on the library as it comes.
func BenchmarkStock(b *testing.B) {
	benchSizes(b, func(b *testing.B, n int, fsync time.Duration) {
		g := benchCluster(b, fsync)
		cmd := make([]byte, benchCommandBytes)
		clients(b, n, func() error {
			f := g.raft.Apply(encodeTestBatch(time.Now().UnixNano(), [][]byte{cmd}), 0)
			if err := f.Error(); err != nil {
				return err
			}
			if o, ok := f.Response().(*outcome); !ok || o.err != nil {
				return errors.New("no outcome")
			}
			return nil
		})
	})
}

// BenchmarkProposer is the proposer alone, on a log that commits at once.
func BenchmarkProposer(b *testing.B) {
	m, err := newMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	p := newProposer()
	p.limits = ProposerLimits{EntryBytes: defaultEntryBytes, QueueBytes: 8 * defaultEntryBytes, QueueCommands: defaultQueueCommands}
	p.encode, p.now, p.metrics, p.gate = encodeTestBatch, time.Now, m, gateOpen
	p.smNow = func() int64 { return 0 }
	p.apply = func(e []byte, _ uint64) raft.ApplyFuture {
		o := &outcome{}
		for rest := e[8:]; len(rest) > 0; rest = rest[benchCommandBytes+2:] {
			o.results = append(o.results, fsm.Result{})
		}
		return instant{o}
	}
	var wg sync.WaitGroup
	wg.Go(p.run)
	cmd := make([]byte, benchCommandBytes)
	clients(b, 256, func() error {
		_, _, err := p.proposeOne(context.Background(), cmd)
		return err
	})
	p.shut(gateStopped)
	wg.Wait()
}

type instant struct{ o *outcome }

func (instant) Error() error    { return nil }
func (i instant) Response() any { return i.o }
func (instant) Index() uint64   { return 1 }

func BenchmarkReadIndex(b *testing.B) {
	g := benchCluster(b, 0)
	clients(b, 256, func() error {
		_, err := g.ReadIndex(context.Background())
		return err
	})
}

func benchSizes(b *testing.B, body func(b *testing.B, clients int, fsync time.Duration)) {
	for _, fsync := range []time.Duration{0, time.Millisecond} {
		for _, n := range []int{1, 16, 256, 2048} {
			b.Run(fmt.Sprintf("fsync=%v/clients=%d", fsync, n), func(b *testing.B) { body(b, n, fsync) })
		}
	}
}
