package node

import (
	"bytes"
	"crypto/rand"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/fsm"
)

// fillState queues n tasks.
func fillState(b *testing.B, state *fsm.State, n int) (index uint64) {
	b.Helper()
	source := benchCommands(b)
	for index = 1; index <= uint64(n); index++ {
		cmd, err := source.next()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := state.Apply(index, fsm.EncodeBatch(int64(index), [][]byte{cmd})); err != nil {
			b.Fatal(err)
		}
	}
	return index
}

// BenchmarkSnapshot writes a compressed snapshot of b.N queued tasks, and
// applies commands meanwhile: how long do they wait?
func BenchmarkSnapshot(b *testing.B) {
	state := fsm.New(fsm.Limits{QueueBound: uint64(2 * b.N)})
	index := fillState(b, state, b.N)
	source := benchCommands(b)
	runtime.GC()
	done := make(chan error, 1)
	before := benchCPU(b)
	b.ResetTimer()
	snap := state.Snapshot()
	go func() { _, err := snap.WriteTo(io.Discard); done <- err }()
	worst, applied := time.Duration(0), 0
	for tick := time.NewTicker(500 * time.Microsecond); ; applied++ {
		select {
		case err := <-done:
			tick.Stop()
			snap.Release()
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(worst)/float64(time.Millisecond), "worst-apply-ms")
			b.ReportMetric(float64(benchCPU(b)-before)/float64(time.Millisecond), "cpu-ms")
			return
		case <-tick.C:
		}
		cmd, err := source.next()
		if err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		if _, err := state.Apply(index, fsm.EncodeBatch(int64(index), [][]byte{cmd})); err != nil {
			b.Fatal(err)
		}
		index++
		worst = max(worst, time.Since(begun))
	}
}

// fillNodes queues tasks whose specs do not compress.
func fillNodes(b *testing.B, leader *Node, total int) {
	b.Helper()
	const perCommand = 1000
	for left := total; left > 0; left -= perCommand {
		submit := fsm.Submit{Tasks: make([]fsm.Submission, min(left, perCommand))}
		for i := range submit.Tasks {
			random := make([]byte, benchFill)
			if _, err := rand.Read(random); err != nil {
				b.Fatal(err)
			}
			spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Stdin: random, Shape: lifeShape})
			if err != nil {
				b.Fatal(err)
			}
			submit.Tasks[i] = fsm.Submission{Shape: lifeShape, Spec: spec}
		}
		cmd, err := fsm.NewCommand(fsm.CmdSubmit, fsm.RequestID{}, "bench", submit)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := leader.group.Propose(b.Context(), cmd); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshotWrites fills three nodes with b.N queued tasks and takes a
// snapshot on the leader, with everything that belongs to it (compression,
// encryption, compaction of the log), while a write begins every 500 µs.
func BenchmarkSnapshotWrites(b *testing.B) {
	leader, source := benchNodes(b, parts{}, noTasks)[0], benchCommands(b)
	fillNodes(b, leader, b.N)
	runtime.GC()
	var mu sync.Mutex
	var took []time.Duration
	var writes sync.WaitGroup
	done := make(chan error, 1)
	before := benchCPU(b)
	b.ResetTimer()
	go func() { done <- leader.group.Snapshot(b.Context()) }()
	for tick := time.NewTicker(500 * time.Microsecond); ; {
		select {
		case err := <-done:
			tick.Stop()
			b.StopTimer()
			writes.Wait()
			if err != nil {
				b.Fatal(err)
			}
			slices.Sort(took)
			b.ReportMetric(float64(benchCPU(b)-before)/float64(time.Millisecond), "cpu-ms")
			for name, q := range map[string]int{"p50-ms": 500, "p999-ms": 999} {
				b.ReportMetric(float64(took[len(took)*q/1000])/float64(time.Millisecond), name)
			}
			return
		case begun := <-tick.C:
			writes.Go(func() {
				if err := benchPropose(b.Context(), leader, source); err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(begun))
			})
		}
	}
}

// BenchmarkRestore reads a snapshot of b.N queued tasks, as a start does.
func BenchmarkRestore(b *testing.B) {
	state := fsm.New(fsm.Limits{QueueBound: uint64(b.N) + 1})
	fillState(b, state, b.N)
	var file bytes.Buffer
	snap := state.Snapshot()
	if _, err := snap.WriteTo(&file); err != nil {
		b.Fatal(err)
	}
	snap.Release()
	size := file.Len()
	before := benchCPU(b)
	b.ResetTimer()
	if err := fsm.New(fsm.Limits{QueueBound: uint64(b.N) + 1}).Restore(&file); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(size)/float64(b.N), "file-B/task")
	b.ReportMetric(float64(benchCPU(b)-before)/float64(time.Millisecond), "cpu-ms")
}
