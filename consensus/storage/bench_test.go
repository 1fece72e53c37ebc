package storage

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
)

// nullBackend takes everything, so that only the stack above it is measured.
type nullBackend struct{ Backend }

func (nullBackend) StoreLogs([]*raft.Log) error { return nil }

func benchStore(b *testing.B, o Options, size int) {
	s := create(b, o)
	data := make([]byte, 0, size)
	for i := 0; len(data) < size; i++ { // about as repetitive as task specs
		data = fmt.Appendf(data, `{"id":"%016x","command":["/bin/true","--n","%d"]}`, i*7919, i)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	i := uint64(0)
	for b.Loop() {
		i++
		if err := s.Logs().StoreLogs([]*raft.Log{{Index: i, Term: 1, Data: data[:size]}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStoreLogs(b *testing.B) {
	for _, size := range []int{190, 12 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("bolt/%d", size), func(b *testing.B) { benchStore(b, options(privateDir(b)), size) })
		b.Run(fmt.Sprintf("stack alone/%d", size), func(b *testing.B) {
			o := options(privateDir(b))
			o.Backend = func(path string) (Backend, error) {
				low, err := OpenBolt(path)
				return nullBackend{low}, err
			}
			benchStore(b, o, size)
		})
	}
}

func BenchmarkGetLog(b *testing.B) {
	for name, o := range map[string]Options{"ring": {}, "disk": {RingEntries: 1}} {
		b.Run(name, func(b *testing.B) {
			p := options(privateDir(b))
			p.RingEntries = o.RingEntries
			s := create(b, p)
			must(b, s.Logs().StoreLogs(entries(1, 1000, 1)))
			b.ReportAllocs()
			i := uint64(0)
			for b.Loop() {
				var l raft.Log
				if err := s.Logs().GetLog(i%999+1, &l); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
