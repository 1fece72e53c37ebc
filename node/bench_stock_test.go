package node

import (
	"crypto/rand"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// BenchmarkStock256 is the raft library as it comes: its TCP transport without
// TLS, raft-boltdb with fsync and no encryption, one command per entry, a map
// as state. 256 clients of the leader, three nodes in this process.
func BenchmarkStock256(b *testing.B) { benchStock(b, 256) }

// BenchmarkStock1 is one client that waits for each commit.
func BenchmarkStock1(b *testing.B) { benchStock(b, 1) }

func benchStock(b *testing.B, clients int) {
	leader := stockGroup(b)
	benchClients(b, clients, func() error {
		cmd := make([]byte, benchCommandBytes)
		if _, err := rand.Read(cmd); err != nil {
			return err
		}
		return leader.Apply(cmd, time.Minute).Error()
	})
}

// stockGroup starts three voters and returns the leader.
func stockGroup(b *testing.B) *raft.Raft {
	b.Helper()
	var servers []raft.Server
	var transports []*raft.NetworkTransport
	for i := range 3 {
		t, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, 10*time.Second, hclog.NewNullLogger())
		if err != nil {
			b.Fatal(err)
		}
		transports = append(transports, t)
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: t.LocalAddr()})
	}
	var group []*raft.Raft
	for i, t := range transports {
		group = append(group, stockNode(b, servers, i, t))
	}
	var leader *raft.Raft
	benchUntil(b, "a leader of the stock group", func() bool {
		for _, r := range group {
			if r.State() == raft.Leader {
				leader = r
				return r.VerifyLeader().Error() == nil
			}
		}
		return false
	})
	return leader
}

func stockNode(b *testing.B, servers []raft.Server, i int, t *raft.NetworkTransport) *raft.Raft {
	b.Helper()
	store, err := raftboltdb.NewBoltStore(filepath.Join(b.TempDir(), "raft.db"))
	if err != nil {
		b.Fatal(err)
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = servers[i].ID, hclog.NewNullLogger()
	// The library's wiring guide puts this cache in front.
	logs, err := raft.NewLogCache(512, store)
	if err != nil {
		b.Fatal(err)
	}
	snaps := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(conf, logs, store, snaps, t, raft.Configuration{Servers: servers}); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(conf, &stockState{kept: map[uint64][]byte{}}, logs, store, snaps, t)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := r.Shutdown().Error(); err != nil {
			b.Error(err)
		}
		t.CloseStreams() // Close leaves the pooled connections open
		if err := t.Close(); err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return r
}

// stockState keeps every command, as a queue of tasks would.
type stockState struct {
	mu   sync.Mutex
	kept map[uint64][]byte
}

func (s *stockState) Apply(l *raft.Log) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[l.Index] = l.Data
	return nil
}

// Snapshot is not reached: the library's defaults ask for one after 8,192
// entries, which would cost it time that ours does not pay.
func (s *stockState) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }

func (s *stockState) Restore(r io.ReadCloser) error { return r.Close() }

type nothing struct{}

func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }

func (nothing) Release() {}
