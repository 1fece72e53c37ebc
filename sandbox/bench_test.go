package sandbox

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// The figures of docs/benchmarks.md: each benchmark reports percentiles of its
// operations. What is compared runs the same payload, a program that does
// nothing but exit.

// BenchmarkWarm is what a caller waits for when a ready sandbox is there: from
// Start to the result. The filling of the pool is not in it; see BenchmarkFill.
func BenchmarkWarm(b *testing.B) {
	r := benchRuntime(b, 16)
	spec := payload()
	t := newTimes(b)
	for range b.N {
		benchWarm(b, r)
		t.measure(func() { benchRun(b, r, spec, true) })
	}
	t.report()
}

// BenchmarkWarmPaced starts one every 100 ms: caches are cold, and the
// processors asleep.
func BenchmarkWarmPaced(b *testing.B) {
	r := benchRuntime(b, 4)
	spec := payload()
	t := newTimes(b)
	paced(b, func() {
		benchWarm(b, r)
		t.measure(func() { benchRun(b, r, spec, true) })
	})
	t.report()
}

// BenchmarkCold includes everything: namespaces, cgroups, the root.
func BenchmarkCold(b *testing.B) {
	r := benchRuntime(b, 0)
	spec := payload()
	t := newTimes(b)
	for range b.N {
		t.measure(func() { benchRun(b, r, spec, false) })
	}
	t.report()
}

// BenchmarkColdLargeHeap is the same from a process with a heap of 1 GiB: a
// fork would copy its page tables.
func BenchmarkColdLargeHeap(b *testing.B) {
	heap := make([][]byte, 1024)
	for i := range heap {
		heap[i] = make([]byte, 1<<20)
		for k := 0; k < len(heap[i]); k += 4096 {
			heap[i][k] = 1
		}
	}
	BenchmarkCold(b)
	runtime.KeepAlive(heap)
}

// BenchmarkThroughput runs them side by side, the pool filling meanwhile.
func BenchmarkThroughput(b *testing.B) {
	r := benchRuntime(b, 64)
	spec := payload()
	benchRun(b, r, spec, false) // starts the filler
	benchWarm(b, r)
	sideBySide(b, func() func() bool {
		return func() bool {
			spec := spec
			spec.ID = newID()
			s, err := r.Start(b.Context(), spec, Streams{})
			if err != nil {
				b.Error(err)
				return false
			}
			res := s.Wait()
			if res.ExitCode != 0 {
				b.Errorf("%+v", res)
			}
			return res.ExitCode == 0
		}
	})
}

// BenchmarkFill makes ready sandboxes and throws them away: what a warm start
// costs beside the latency path.
func BenchmarkFill(b *testing.B) {
	r := benchRuntime(b, 0)
	benchRun(b, r, payload(), false)
	before := hostBusy(b)
	b.ResetTimer()
	for i := range b.N {
		c, err := r.newCell(b.Context(), fmt.Sprintf("fill-%d", i), defaultShape, grants{})
		if err != nil {
			b.Fatal(err)
		}
		c.dispose()
	}
	b.StopTimer()
	b.ReportMetric(float64((hostBusy(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// BenchmarkWarmMemory is the memory of ready sandboxes.
func BenchmarkWarmMemory(b *testing.B) {
	r := benchRuntime(b, 0)
	benchRun(b, r, payload(), false)
	const many = 200
	var cells []*cell
	defer func() {
		for _, c := range cells {
			c.dispose()
		}
	}()
	before := hostFree(b)
	for i := range many {
		c, err := r.newCell(b.Context(), fmt.Sprintf("kept-%d", i), defaultShape, grants{})
		if err != nil {
			b.Fatal(err)
		}
		cells = append(cells, c)
	}
	b.ReportMetric(float64(before-hostFree(b))/many/1024, "KiB/sandbox")
}

// BenchmarkKillMany kills a sandbox of a thousand processes, and waits until
// nothing of it is left.
func BenchmarkKillMany(b *testing.B) {
	r := testRuntime(b, 0)
	const many = 1000
	t := newTimes(b)
	for range b.N {
		spec := shell(fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 1000 & i=$((i+1)); done; echo up; sleep 1000", many))
		spec.Limits = Limits{PIDs: many + 64, CPUMillis: 4000, MemoryBytes: 4 << 30}
		spec.ID, spec.Env = newID(), []string{"PATH=/usr/bin:/bin"}
		up := make(chan struct{}, 1)
		s, err := r.Start(b.Context(), spec, Streams{Stdout: writerFunc(func(p []byte) (int, error) {
			select {
			case up <- struct{}{}:
			default:
			}
			return len(p), nil
		})})
		if err != nil {
			b.Fatal(err)
		}
		select {
		case <-up:
		case <-s.Done():
			b.Fatalf("ended before it was killed: %+v", s.Wait())
		}
		t.measure(func() {
			s.Kill(EndCancelled)
			s.Wait()
		})
	}
	t.report()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func benchRun(b *testing.B, r *Runtime, spec Spec, warm bool) {
	b.Helper()
	spec.ID = newID()
	s, err := r.Start(b.Context(), spec, Streams{})
	if err != nil {
		b.Fatal(err)
	}
	if res := s.Wait(); res.Reason != EndExit || res.ExitCode != 0 || warm && !s.warm {
		b.Fatalf("%+v, warm %v", res, s.warm)
	}
}

// benchWarm waits until the pool is full, so that its filler is at rest.
func benchWarm(b *testing.B, r *Runtime) {
	b.Helper()
	p := r.warm()
	p.wake()
	eventually(b, "the pool is full", func() bool { return len(p.cells) == cap(p.cells) })
}

// pace is the distance of starts in the paced benchmarks.
const pace = 100 * time.Millisecond

func paced(b *testing.B, do func()) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for range b.N {
		<-tick.C
		do()
	}
}
