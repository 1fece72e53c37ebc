package node

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/consensus/storage"
)

// noTasks makes nodes that only commit.
func noTasks(c *Config) { c.CPUMillis, c.MemoryBytes = -1, -1 }

// BenchmarkCommits256 is the whole stack in one process: 256 clients of the
// leader, three nodes, mutual TLS, fsync, encrypted logs.
func BenchmarkCommits256(b *testing.B) { benchCommits(b, 256, parts{}) }

// BenchmarkCommits1 is one client that waits for each commit.
func BenchmarkCommits1(b *testing.B) { benchCommits(b, 1, parts{}) }

// BenchmarkCommits256SlowDisk adds 1 ms to every fsync.
func BenchmarkCommits256SlowDisk(b *testing.B) {
	benchCommits(b, 256, parts{backend: slowDisk(time.Millisecond)})
}

func benchCommits(b *testing.B, clients int, p parts) {
	leader, source := benchNodes(b, p, noTasks)[0], benchCommands(b)
	benchClients(b, clients, func() error { return benchPropose(b.Context(), leader, source) })
}

func benchCommands(b *testing.B) *benchSource {
	b.Helper()
	s, err := newBenchSource()
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkForwarded256 is 256 clients of a follower.
func BenchmarkForwarded256(b *testing.B) {
	follower, source := benchNodes(b, parts{}, noTasks)[1], benchCommands(b)
	benchClients(b, 256, func() error {
		cmd, err := source.next()
		if err != nil {
			return err
		}
		_, _, err = follower.forward.Propose(b.Context(), cmd)
		return err
	})
}

// slowBackend takes longer for every write, as a disk with a slow fsync would.
type slowBackend struct {
	storage.Backend
	delay time.Duration
}

// boltSyncs is how often raft-boltdb syncs per append: the data pages, then
// the page that makes them count.
const boltSyncs = 2

func slowDisk(delay time.Duration) storage.OpenBackend {
	below := func(path string) (storage.Backend, error) {
		b, err := storage.OpenBolt(path)
		return slowBackend{b, boltSyncs * delay}, err
	}
	return func(path string) (storage.Backend, error) {
		b, err := storage.Journaled(below)(path)
		return slowAppends{slowBackend{b, delay}}, err
	}
}

func (s slowBackend) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s slowBackend) StoreLogs(l []*raft.Log) error {
	time.Sleep(s.delay)
	return s.Backend.StoreLogs(l)
}

func (s slowBackend) Set(k, v []byte) error {
	time.Sleep(s.delay)
	return s.Backend.Set(k, v)
}

func (s slowBackend) SetUint64(k []byte, v uint64) error {
	time.Sleep(s.delay)
	return s.Backend.SetUint64(k, v)
}

func (s slowBackend) DeleteRange(from, to uint64) error {
	time.Sleep(s.delay)
	return s.Backend.DeleteRange(from, to)
}

// slowAppends is the journal: what is no append it leaves to the database,
// which is slow by itself.
type slowAppends struct{ slowBackend }

func (s slowAppends) Set(k, v []byte) error              { return s.Backend.Set(k, v) }
func (s slowAppends) SetUint64(k []byte, v uint64) error { return s.Backend.SetUint64(k, v) }
