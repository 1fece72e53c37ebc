package sandbox

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// times are the durations of operations.
type times struct {
	b    *testing.B
	list []time.Duration
}

func newTimes(b *testing.B) *times {
	b.ResetTimer()
	return &times{b: b}
}

func (t *times) measure(do func()) {
	begun := time.Now()
	do()
	t.list = append(t.list, time.Since(begun))
}

func (t *times) report() {
	slices.Sort(t.list)
	at := func(p int) float64 {
		return float64(t.list[min(len(t.list)-1, len(t.list)*p/100)].Nanoseconds()) / 1000
	}
	t.b.ReportMetric(at(50), "p50-us")
	t.b.ReportMetric(at(99), "p99-us")
}

// sideBySide runs b.N operations on twice as many goroutines as processors, each
// with its own from worker, and reports their rate. A worker that answers false
// has failed and is done.
func sideBySide(b *testing.B, worker func() func() bool) {
	var workers []func() bool
	for range 2 * runtime.GOMAXPROCS(0) {
		workers = append(workers, worker())
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	before := hostBusy(b)
	b.ResetTimer()
	var work sync.WaitGroup
	for _, do := range workers {
		work.Go(func() {
			for left.Add(-1) >= 0 && do() {
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
	b.ReportMetric(float64((hostBusy(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
}

// hostBusy is the processor time that the whole machine has used: a sandbox's
// cost is spread over the node, the launcher, the init and kernel threads.
func hostBusy(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var ticks int64
	for i, f := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		if i != 3 && i != 4 && i < 8 { // idle, iowait; guests are in user time
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 everywhere
}

// hostFree is the machine's available memory in bytes.
func hostFree(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemAvailable:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no MemAvailable in /proc/meminfo")
	return 0
}
