package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"holdfast/client"
	"holdfast/consensus/storage"
)

// frozen is a disk whose appends hang while the lock is held.
type frozen struct {
	storage.Backend
	disk *sync.RWMutex
}

func (f frozen) StoreLogs(l []*raft.Log) error {
	f.disk.RLock()
	defer f.disk.RUnlock()
	return f.Backend.StoreLogs(l)
}

func (f frozen) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

// guards P12: a follower whose disk hangs waits for it, not ready meanwhile; a
// leader gives up its place.
func TestHungDisksOfFollowerAndLeader(t *testing.T) {
	disks := map[string]*sync.RWMutex{"a": {}, "b": {}, "c": {}}
	nodes := threeNodesOf(t, func(name string) parts {
		return parts{backend: func(path string) (storage.Backend, error) {
			b, err := storage.Journaled(storage.OpenBolt)(path)
			return frozen{b, disks[name]}, err
		}}
	})
	leader := nodes[0]
	if !leader.group.Leader().Self {
		t.Fatal("the first node does not lead")
	}
	follower := nodes[1]
	submit := func(n *Node) {
		t.Helper()
		if _, err := socketClient(t, n).Submit(t.Context(), client.TaskSpec{Command: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
	}

	disks["b"].Lock()
	submit(leader)
	until(t, "the follower is not ready", func() error {
		if !slices.ContainsFunc((backend{follower}).NotReady(), func(why string) bool { return strings.Contains(why, "disk") }) {
			return errors.New("ready")
		}
		return nil
	})
	until(t, "its disk hangs for longer than a leader may wait", func() error {
		if follower.store.LongestWrite() < 3*time.Duration(follower.cfg.StallLimit)/2 {
			return errors.New("not yet")
		}
		return nil
	})
	disks["b"].Unlock()
	if err := follower.Cause(); err != nil {
		t.Fatalf("the follower ended: %v", err)
	}
	ready(t, follower)

	disks["a"].Lock()
	thaw := sync.OnceFunc(disks["a"].Unlock)
	t.Cleanup(thaw) // before the nodes are stopped
	submit(follower)
	until(t, "the leader gives up its place", func() error {
		if err := leader.Cause(); err == nil || !strings.Contains(err.Error(), "gives up its place") {
			return errors.Join(errors.New("it goes on"), err)
		}
		return nil
	})
	submit(follower)
	thaw()
}

// The wait of a follower ends, too.
func TestFollowerStallEnds(t *testing.T) {
	n := &Node{cfg: Defaults(), log: hclog.NewNullLogger(), grouped: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancelCause(t.Context())
	for _, early := range []time.Duration{time.Duration(n.cfg.StallLimit), followerStall - 1} {
		if n.diskStalls("store logs", early) || n.Cause() != nil {
			t.Errorf("it ends after %v", early)
		}
	}
	if !n.diskStalls("store logs", followerStall) || n.Cause() == nil {
		t.Error("it waits for ever")
	}
}
