package consensus

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"holdfast/consensus/memtransport"
	"holdfast/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testCommand is what the test's state machine understands.
type testCommand struct {
	Key, Value string
	Append     bool   // to the value instead of replacing it
	RequestID  string // takes effect once
	Poison     bool   // the state machine refuses the entry
}

func (c testCommand) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

func encodeTestBatch(unixNano int64, cmds [][]byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(unixNano))
	for _, c := range cmds {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return b
}

// testState is a map with request IDs. Results carry the new value.
type testState struct {
	mu      sync.Mutex
	data    testData
	raw     bool // commands are not decoded, for benchmarks
	applies int
}

type testData struct {
	Index    uint64
	Now      int64
	Values   map[string]string
	Requests map[string]string
}

func newTestState() *testState {
	return &testState{data: testData{Values: map[string]string{}, Requests: map[string]string{}}}
}

func (s *testState) Apply(index uint64, batch []byte) (fsm.Applied, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if index <= s.data.Index {
		return fsm.Applied{}, fmt.Errorf("entry %d after %d", index, s.data.Index)
	}
	s.applies++
	now := int64(binary.BigEndian.Uint64(batch))
	s.data.Index, s.data.Now = index, max(now, s.data.Now)
	var out fsm.Applied
	for rest := batch[8:]; len(rest) > 0; {
		n, k := binary.Uvarint(rest)
		if s.raw {
			out.Results = append(out.Results, fsm.Result{Count: uint32(rest[k])})
			rest = rest[k+int(n):]
			continue
		}
		var c testCommand
		if err := json.Unmarshal(rest[k:k+int(n)], &c); err != nil {
			return out, err
		}
		rest = rest[k+int(n):]
		if c.Poison {
			return out, errors.New("poisoned")
		}
		out.Results = append(out.Results, fsm.Result{Detail: s.one(c)})
		out.Changes = append(out.Changes, fsm.Change{Kind: fsm.ChangeQueued, Task: fsm.TaskID(len(s.data.Requests))})
	}
	return out, nil
}

func (s *testState) one(c testCommand) string {
	if c.RequestID != "" {
		if old, ok := s.data.Requests[c.RequestID]; ok {
			return old
		}
	}
	v := c.Value
	if c.Append {
		v = s.data.Values[c.Key] + v
	}
	s.data.Values[c.Key] = v
	if c.RequestID != "" {
		s.data.Requests[c.RequestID] = v
	}
	return v
}

func (s *testState) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Values[key]
}

func (s *testState) Now() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data.Now
}

type testSnapshot []byte

func (s testSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s)
	return int64(n), err
}
func (s testSnapshot) Release() {}

func (s *testState) Snapshot() testSnapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := json.Marshal(s.data)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *testState) Restore(r io.Reader) error {
	var d testData
	if err := json.NewDecoder(r).Decode(&d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = d
	return nil
}

// memSnapshots is a snapshot store in memory; unlike the library's it shows a
// snapshot only when it is complete.
type memSnapshots struct {
	mu    sync.Mutex
	all   []*memSnapshot // newest first
	count int
}

type memSnapshot struct {
	store *memSnapshots
	meta  raft.SnapshotMeta
	buf   bytes.Buffer
	done  bool
}

func (m *memSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	return &memSnapshot{store: m, meta: raft.SnapshotMeta{Version: v, ID: fmt.Sprintf("%d-%d-%d", term, index, m.count), Index: index, Term: term, Configuration: c, ConfigurationIndex: ci}}, nil
}

func (m *memSnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*raft.SnapshotMeta
	for _, s := range m.all {
		meta := s.meta
		out = append(out, &meta)
	}
	return out, nil
}

func (m *memSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.all {
		if s.meta.ID == id {
			meta := s.meta
			return &meta, io.NopCloser(bytes.NewReader(s.buf.Bytes())), nil
		}
	}
	return nil, nil, fmt.Errorf("no snapshot %s", id)
}

func (s *memSnapshot) Write(p []byte) (int, error) { return s.buf.Write(p) }
func (s *memSnapshot) ID() string                  { return s.meta.ID }
func (s *memSnapshot) Cancel() error               { return nil }
func (s *memSnapshot) Close() error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.done { // the library closes again what Persist has closed
		return nil
	}
	s.done = true
	s.meta.Size = int64(s.buf.Len())
	s.store.all = append([]*memSnapshot{s}, s.store.all...)
	return nil
}

// testNode is one node's disks and its running group.
type testNode struct {
	id     string
	logs   raft.LogStore
	stable raft.StableStore
	snaps  *memSnapshots

	state     *testState
	transport *memtransport.Transport
	group     *Group
	fatal     chan error
}

// cluster is a group of nodes in one process, on synctest's clock.
type cluster struct {
	t     testing.TB
	net   *memtransport.Network
	nodes []*testNode
	tune  func(*Config)
	wrap  func(raft.Transport) raft.Transport
}

func nodeID(i int) string { return fmt.Sprintf("n%d", i+1) }

// newCluster makes n nodes; the first voters of them vote. Nothing runs yet.
func newCluster(t testing.TB, n, voters int, tune func(*Config)) *cluster {
	c := &cluster{t: t, net: memtransport.New(100*time.Millisecond, 200*time.Microsecond), tune: tune}
	var servers []raft.Server
	for i := range n {
		store := raft.NewInmemStore()
		c.nodes = append(c.nodes, &testNode{id: nodeID(i), logs: store, stable: store, snaps: &memSnapshots{}})
		s := raft.Server{ID: raft.ServerID(nodeID(i)), Address: raft.ServerAddress(nodeID(i)), Suffrage: raft.Voter}
		if i >= voters {
			s.Suffrage = raft.Nonvoter
		}
		servers = append(servers, s)
	}
	for _, nd := range c.nodes {
		rc := raft.DefaultConfig()
		rc.LocalID = raft.ServerID(nd.id)
		rc.Logger = hclog.NewNullLogger()
		if err := raft.BootstrapCluster(rc, nd.logs, nd.stable, nd.snaps, c.net.Join("boot"), raft.Configuration{Servers: servers}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// start opens a node over its disks.
func (c *cluster) start(i int) *testNode {
	c.t.Helper()
	nd := c.nodes[i]
	nd.state = newTestState()
	nd.transport = c.net.Join(raft.ServerAddress(nd.id))
	nd.fatal = make(chan error, 1)
	var tr raft.Transport = nd.transport
	if c.wrap != nil {
		tr = c.wrap(tr)
	}
	fatal := nd.fatal
	cfg := Config{
		ID: nd.id, Transport: tr, Logs: nd.logs, Stable: nd.stable, Snapshots: nd.snaps,
		State: Adapt(nd.state), EncodeBatch: encodeTestBatch,
		CheckSnapshot: func(r io.Reader) error { return newTestState().Restore(r) },
		Autopilot:     AutopilotConfig{Disabled: true},
		OnFatal:       func(err error) { fatal <- err },
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	g, err := Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	nd.group = g
	return nd
}

func (c *cluster) startAll() {
	for i := range c.nodes {
		c.start(i)
	}
}

// stop ends a node as an orderly exit would, without a transfer.
func (c *cluster) stop(i int) {
	nd := c.nodes[i]
	if nd.group == nil {
		return
	}
	_ = nd.transport.Close()
	if err := nd.group.Shutdown(); err != nil {
		c.t.Errorf("shut down %s: %v", nd.id, err)
	}
	nd.group = nil
}

func (c *cluster) stopAll() {
	c.net.Close()
	for i := range c.nodes {
		c.stop(i)
	}
}

// leader waits for a leader in office among the nodes that run.
func (c *cluster) leader(among ...int) *testNode {
	c.t.Helper()
	var found *testNode
	eventually(c.t, "a leader in office", func() bool {
		for i, nd := range c.nodes {
			if nd.group == nil || len(among) > 0 && !slices.Contains(among, i) {
				continue
			}
			if nd.group.leadership.office.Load() != nil {
				found = nd
				return true
			}
		}
		return false
	})
	return found
}

func (c *cluster) indexOf(nd *testNode) int { return slices.Index(c.nodes, nd) }

func (c *cluster) others(nd *testNode) []int {
	var out []int
	for i, o := range c.nodes {
		if o != nd && o.group != nil {
			out = append(out, i)
		}
	}
	return out
}

func addrs(nodes ...*testNode) []raft.ServerAddress {
	var out []raft.ServerAddress
	for _, n := range nodes {
		out = append(out, raft.ServerAddress(n.id))
	}
	return out
}

// isolate cuts one node off from all others.
func (c *cluster) isolate(nd *testNode) {
	var rest []*testNode
	for _, o := range c.nodes {
		if o != nd {
			rest = append(rest, o)
		}
	}
	c.net.Partition(addrs(nd), addrs(rest...))
}

// eventually polls on the (synctest) clock.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if ok() {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// must proposes on whoever leads until it is answered, as a node does.
func (c *cluster) must(cmd testCommand, among ...int) (fsm.Result, uint64) {
	c.t.Helper()
	var r fsm.Result
	var index uint64
	eventually(c.t, "an answer to a proposal", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		r, index, err = c.leader(among...).group.Propose(ctx, cmd.encode())
		return err == nil
	})
	return r, index
}

// simulate runs a cluster on a virtual clock.
func simulate(t *testing.T, n, voters int, tune func(*Config), body func(*testing.T, *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, n, voters, tune)
		defer c.stopAll()
		body(t, c)
	})
}

// elapse lets (synctest's) time pass.
func elapse(d time.Duration) { <-time.After(d) }
