package fsm

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"
)

// payload makes a Spec whose encoding has about 128 bytes.
func payload(t testing.TB) []byte {
	b, err := Marshal(Spec{Name: "bench", Command: []string{"/bin/sh", "-c", string(bytes.Repeat([]byte{'x'}, 80))}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// submitBatch encodes a batch of n commands with one task each.
func submitBatch(t testing.TB, n int, shape Shape) []byte {
	one := cmd(t, CmdSubmit, RequestID{}, Submit{Tasks: []Submission{{Shape: shape, Spec: payload(t)}}})
	return EncodeBatch(epoch, slices.Repeat([][]byte{one}, n))
}

var benchShape = Shape{Priority: 50, CPUMillis: 500, MemoryBytes: 512 << 20, RetryLimit: 3, RunTimeout: time.Hour}

func BenchmarkApplySubmit(b *testing.B) {
	const perBatch = 100
	batch := submitBatch(b, perBatch, benchShape)
	s := New(Limits{QueueBound: 1 << 40})
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += perBatch {
		if _, err := s.Apply(uint64(i+1), batch); err != nil {
			b.Fatal(err)
		}
	}
}

// Every command has a request ID, as those of clients have.
func BenchmarkApplySubmitWithRequestID(b *testing.B) {
	s := New(Limits{QueueBound: 1 << 40})
	body := Submit{Tasks: []Submission{{Shape: benchShape, Spec: payload(b)}}}
	cmds := make([][]byte, b.N)
	for i := range cmds {
		cmds[i] = cmd(b, CmdSubmit, RequestID{1, byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}, body)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i, index := 0, uint64(1); i < b.N; i, index = i+100, index+1 {
		if _, err := s.Apply(index, EncodeBatch(epoch, cmds[i:min(i+100, b.N)])); err != nil {
			b.Fatal(err)
		}
	}
}

// A whole life: submit, assign and report, in batches of 100.
func BenchmarkTaskLife(b *testing.B) {
	const perBatch = 100
	r := newRig(b, Limits{})
	r.node("n1", func(n *Node) { n.CPUMillis, n.MemoryBytes = 1_000_000, 1<<40 })
	submit := submitBatch(b, perBatch, benchShape)
	s, index, next := r.s, r.index, TaskID(1)
	apply := func(batch []byte) {
		index++
		if _, err := s.Apply(index, batch); err != nil {
			b.Fatal(err)
		}
	}
	var encoding time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += perBatch {
		apply(submit)
		began := time.Now()
		as, rs := Assign{}, Report{Node: "n1", Incarnation: 1}
		for j := range TaskID(perBatch) {
			as.Assignments = append(as.Assignments, Assignment{next + j, 1, "n1"})
			rs.Reports = append(rs.Reports, AttemptReport{next + j, 1, AttemptResult{Reason: EndExit, CPUTime: time.Second, WallTime: time.Second}})
		}
		assign := EncodeBatch(epoch, [][]byte{cmd(b, CmdAssign, RequestID{}, as)})
		report := EncodeBatch(epoch, [][]byte{cmd(b, CmdReport, RequestID{}, rs)})
		encoding += time.Since(began)
		apply(assign)
		apply(report)
		next += perBatch
	}
	b.StopTimer()
	if c := s.Counts(); c.Succeeded != c.Accepted {
		b.Fatalf("%+v", c)
	}
	b.ReportMetric(float64((b.Elapsed()-encoding).Nanoseconds())/float64(b.N), "apply-ns/op")
}

func fill(b testing.TB, n int, shape Shape) *State {
	s := New(Limits{})
	batch := submitBatch(b, 1000, shape)
	for i := range n / 1000 {
		if _, err := s.Apply(uint64(i+1), batch); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// A million queued tasks: bytes of heap for each, their commands included.
func BenchmarkMemoryPerTask(b *testing.B) {
	for _, timeout := range []time.Duration{0, time.Hour} {
		b.Run(fmt.Sprintf("queue_timeout=%v", timeout), func(b *testing.B) {
			shape := benchShape
			shape.QueueTimeout = timeout
			var before, after runtime.MemStats
			for range b.N {
				runtime.GC()
				runtime.ReadMemStats(&before)
				s := fill(b, 1_000_000, shape)
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(s)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "B/task")
		})
	}
}

// Reading the heads must not depend on the length of the lines.
func BenchmarkPlanView(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("queued=%d", n), func(b *testing.B) {
			s := fill(b, n, benchShape)
			b.ResetTimer()
			for range b.N {
				if v := s.PlanView(256, 64); len(v.Classes[0].Tasks) != 256 {
					b.Fatal(len(v.Classes[0].Tasks))
				}
			}
		})
	}
}

// Batches of 100 submissions while a snapshot of a million tasks is written:
// the p999 of Apply, and how long the snapshot took.
func BenchmarkApplyDuringSnapshot(b *testing.B) {
	s := fill(b, 1_000_000, benchShape)
	batch := submitBatch(b, 100, benchShape)
	index := s.Index()
	var times []time.Duration
	var wrote time.Duration
	for range b.N {
		snap := s.Snapshot()
		done := make(chan error, 1)
		began := time.Now()
		go func() {
			_, err := snap.WriteTo(io.Discard)
			done <- err
		}()
		for open := true; open; {
			select {
			case err := <-done:
				if err != nil {
					b.Fatal(err)
				}
				open = false
			default:
				index++
				at := time.Now()
				if _, err := s.Apply(index, batch); err != nil {
					b.Fatal(err)
				}
				times = append(times, time.Since(at))
				if s.Counts().Queued > 1_900_000 {
					s = fill(b, 1_000_000, benchShape)
					index = s.Index()
				}
			}
		}
		wrote += time.Since(began)
		snap.Release()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*999/1000].Microseconds()), "p999-µs/batch")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "max-µs/batch")
	b.ReportMetric(float64(wrote.Milliseconds())/float64(b.N), "write-ms")
}

func BenchmarkRestoreMillion(b *testing.B) {
	s := fill(b, 1_000_000, benchShape)
	var buf bytes.Buffer
	snap := s.Snapshot()
	if _, err := snap.WriteTo(&buf); err != nil {
		b.Fatal(err)
	}
	snap.Release()
	b.ResetTimer()
	for range b.N {
		if err := New(Limits{}).Restore(bytes.NewReader(buf.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(buf.Len())/1e6, "B/task")
}
