package node

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker"
)

// instant runs attempts that are over before they begin.
type instant struct{}

func (instant) Start(context.Context, worker.Run, io.Writer, io.Writer) (worker.Sandbox, error) {
	return over{}, nil
}

func (instant) Extend(time.Duration) {}

type over struct{}

func (over) Wait() worker.Exit  { return worker.Exit{Reason: fsm.EndExit} }
func (over) Stop(time.Duration) {}
func (over) Kill()              {}

// lifeBatch is how many tasks one submission holds.
const lifeBatch = 100

// BenchmarkLife is the whole life of b.N tasks: submitted in batches by eight
// clients, assigned, run by a runner that does nothing, reported; every step
// durable on a majority. Three nodes in this process, all of them workers.
func BenchmarkLife(b *testing.B) {
	nodes := benchNodes(b, parts{executor: instant{}}, func(c *Config) {
		c.CPUMillis, c.MemoryBytes = int64(runtime.NumCPU())*64_000, 1<<40
	})
	leader := nodes[0]
	b.ResetTimer()
	submitLives(b, leader, b.N)
	benchUntil(b, "every task's end", func() bool { return leader.state.Counts().Succeeded >= uint64(b.N) })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

func submitLives(b *testing.B, leader *Node, total int) {
	b.Helper()
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Shape: lifeShape})
	if err != nil {
		b.Fatal(err)
	}
	sizes := make(chan int, total/lifeBatch+1)
	for left := total; left > 0; left -= lifeBatch {
		sizes <- min(left, lifeBatch)
	}
	close(sizes)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range sizes {
				if err := submitTasks(b.Context(), leader, spec, n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

var lifeShape = fsm.Shape{Priority: 50, CPUMillis: 50, MemoryBytes: 1 << 20}

func submitTasks(ctx context.Context, n *Node, spec []byte, count int) error {
	submit := fsm.Submit{Tasks: make([]fsm.Submission, count)}
	for i := range submit.Tasks {
		submit.Tasks[i] = fsm.Submission{Shape: lifeShape, Spec: spec}
	}
	cmd, err := fsm.NewCommand(fsm.CmdSubmit, fsm.RequestID{}, "bench", submit)
	if err != nil {
		return err
	}
	r, _, err := n.forward.Propose(ctx, cmd)
	if err == nil && r.Code != fsm.OK {
		err = fmt.Errorf("%s: %s", r.Code, r.Detail)
	}
	return err
}

// BenchmarkQueuedMemory is the heap that one of many queued tasks of 128-byte
// commands takes.
func BenchmarkQueuedMemory(b *testing.B) {
	state := fsm.New(fsm.Limits{QueueBound: uint64(b.N) + 1})
	before := liveHeap()
	fillState(b, state, b.N)
	b.ReportMetric(float64(liveHeap()-before)/float64(b.N), "heap-B/task")
	if got := state.Counts().Queued; got != b.N {
		b.Fatalf("%d tasks queued, want %d", got, b.N)
	}
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one only marked as finalisable
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The pieces work: no speed is asserted.
func TestInstantTasksEnd(t *testing.T) {
	sb, err := instant{}.Start(t.Context(), worker.Run{}, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if e := sb.Wait(); e.Reason != fsm.EndExit || e.Code != 0 {
		t.Fatalf("%+v", e)
	}
}
