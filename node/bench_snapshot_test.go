package node

import (
	"io"
	"runtime"
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
