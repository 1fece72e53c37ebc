package consensus

import (
	"compress/gzip"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// gzipped is a stand-in for the node's compression.
type gzipped struct{ raft.FSMSnapshot }

type gzipSink struct {
	raft.SnapshotSink
	z *gzip.Writer
}

func (s gzipSink) Write(p []byte) (int, error) { return s.z.Write(p) }
func (s gzipSink) Close() error {
	if err := s.z.Close(); err != nil {
		return err
	}
	return s.SnapshotSink.Close()
}

func (g gzipped) Persist(sink raft.SnapshotSink) error {
	return g.FSMSnapshot.Persist(gzipSink{sink, gzip.NewWriter(sink)})
}

func gunzip(rc io.ReadCloser) (io.ReadCloser, error) { return gzip.NewReader(rc) }

// The real state machine: its batches (the empty one too), its snapshots,
// compressed, and a restart over them.
func TestRealStateMachine(t *testing.T) {
	var states []*fsm.State
	tune := func(c *Config) {
		s := fsm.New(fsm.Limits{})
		states = append(states, s)
		c.State, c.EncodeBatch = Adapt(s), fsm.EncodeBatch
		c.Compress = func(s raft.FSMSnapshot) raft.FSMSnapshot { return gzipped{s} }
		c.Decompress = gunzip
	}
	simulate(t, 1, 1, tune, func(t *testing.T, c *cluster) {
		states = nil
		c.startAll()
		cmd, err := fsm.NewCommand(fsm.CmdInitCluster, fsm.RequestID{1}, "node", fsm.InitCluster{
			ClusterID: "c1", CACert: []byte{1}, CAKey: []byte{2}, First: "n1",
		})
		if err != nil {
			t.Fatal(err)
		}
		g := c.leader().group
		r, index, err := g.Propose(within(t, time.Second), cmd)
		if err != nil || r.Code != fsm.OK {
			t.Fatalf("%+v, %v", r, err)
		}
		if again, _, err := g.Propose(within(t, time.Second), cmd); err != nil || again.Code != fsm.OK {
			t.Fatalf("the same request ID got %+v, %v", again, err)
		}
		if err := g.Snapshot(within(t, 5*time.Second)); err != nil {
			t.Fatal(err)
		}
		before := states[0].Hash()
		c.stop(0)
		c.start(0)
		if got := c.nodes[0].group.AppliedIndex(); got < index {
			t.Errorf("after the restart %d is applied, want %d at least", got, index)
		}
		if v, ok := states[1].Cluster(); !ok || v.ClusterID != "c1" {
			t.Errorf("%+v, %v", v, ok)
		}
		if states[1].Hash() != before {
			t.Error("the state that was restored differs")
		}
	})
}
