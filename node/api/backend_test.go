package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

// memory is a Backend on a real state machine, without a log.
type memory struct {
	state *fsm.State
	now   func() time.Time

	mu       sync.Mutex
	index    uint64
	watchers map[fsm.TaskID][]chan struct{}
	commands int // proposed so far
	fail     func(fsm.CommandType) error
	hold     chan struct{} // if set, proposals wait until it is closed
	barrier  func(context.Context, ReadOptions) (ReadInfo, error)
	output   func(context.Context, OutputRequest) (io.ReadCloser, OutputInfo, error)
	notReady []string
	restored []byte
	snapshot func(io.Writer) error
	panics   bool
}

func newMemory(t testing.TB) *memory {
	t.Helper()
	m := &memory{state: fsm.New(fsm.Limits{}), now: time.Now, watchers: map[fsm.TaskID][]chan struct{}{}}
	m.must(t, fsm.CmdInitCluster, "", fsm.InitCluster{ClusterID: "c1", CACert: []byte("cert"), CAKey: []byte("key"), First: "n1"})
	m.must(t, fsm.CmdRegisterNode, "", fsm.RegisterNode{Node: fsm.Node{
		ID: "n1", Name: "one", Addr: "127.0.0.1:1", CPUMillis: 4000, MemoryBytes: 8 << 30, Incarnation: 1,
		Labels: []fsm.Label{{Key: "zone", Value: "a"}}, Abilities: []string{"memory"}, Weaker: []string{"landlock"},
	}})
	return m
}

func (m *memory) must(t testing.TB, typ fsm.CommandType, principal string, body any) fsm.Result {
	t.Helper()
	cmd, err := fsm.NewCommand(typ, fsm.RequestID{}, principal, body)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := m.Propose(t.Context(), cmd)
	if err != nil || r.Code != fsm.OK {
		t.Fatalf("%s: %v %+v", typ, err, r)
	}
	return r
}

func (m *memory) State() State { return m.state }

func (m *memory) Propose(ctx context.Context, cmd []byte) (fsm.Result, uint64, error) {
	m.mu.Lock()
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return fsm.Result{}, 0, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.panics {
		panic("a secret cause")
	}
	if m.fail != nil {
		var c fsm.Command
		if err := fsm.Unmarshal(cmd, &c); err != nil {
			return fsm.Result{}, 0, err
		}
		if err := m.fail(c.Type); err != nil {
			return fsm.Result{}, 0, err
		}
	}
	m.index++
	m.commands++
	applied, err := m.state.Apply(m.index, fsm.EncodeBatch(m.now().UnixNano(), [][]byte{cmd}))
	if err != nil {
		return fsm.Result{}, 0, err
	}
	for _, ch := range applied.Changes {
		if ch.Kind == fsm.ChangeTerminal {
			for _, w := range m.watchers[ch.Task] {
				close(w)
			}
			delete(m.watchers, ch.Task)
		}
	}
	return applied.Results[0], m.index, nil
}

func (m *memory) ProposeAsync(deadline time.Time, cmd []byte, done func(fsm.Result, uint64, error)) {
	go func() {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		defer cancel()
		done(m.Propose(ctx, cmd))
	}()
}

func (m *memory) ReadBarrier(ctx context.Context, o ReadOptions) (ReadInfo, error) {
	m.mu.Lock()
	barrier := m.barrier
	m.mu.Unlock()
	if barrier != nil {
		return barrier(ctx, o)
	}
	if o.MinIndex > m.state.Index() {
		<-ctx.Done()
		return ReadInfo{}, ctx.Err()
	}
	info := ReadInfo{Index: m.state.Index()}
	if o.Stale {
		info.Age = 1500 * time.Millisecond
		if o.MaxAge > 0 && o.MaxAge < info.Age {
			return ReadInfo{}, ErrTooStale
		}
	}
	return info, nil
}

func (m *memory) WatchTask(id fsm.TaskID) (<-chan struct{}, func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ch := make(chan struct{})
	m.watchers[id] = append(m.watchers[id], ch)
	return ch, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, w := range m.watchers[id] {
			if w == ch {
				m.watchers[id] = append(m.watchers[id][:i:i], m.watchers[id][i+1:]...)
				return
			}
		}
	}
}

func (m *memory) watching(id fsm.TaskID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.watchers[id])
}

func (m *memory) Output(ctx context.Context, r OutputRequest) (io.ReadCloser, OutputInfo, error) {
	m.mu.Lock()
	output := m.output
	m.mu.Unlock()
	if output != nil {
		return output(ctx, r)
	}
	all := "0123456789"
	if r.Offset > int64(len(all)) {
		return nil, OutputInfo{}, fmt.Errorf("%w: offset %d is beyond the end", ErrInvalid, r.Offset)
	}
	return io.NopCloser(strings.NewReader(all[r.Offset:])), OutputInfo{Attempt: max(r.Attempt, 1), Total: int64(len(all)), Ended: true, Truncated: true}, nil
}

func (m *memory) Cluster(_ context.Context, hash bool) (*client.ClusterStatus, error) {
	c := &client.ClusterStatus{ClusterID: "c1", Leader: "n1", Index: m.state.Index(), AnsweredBy: "n1"}
	if hash {
		c.StateHash = "abcd"
	}
	return c, nil
}

func (m *memory) Peers() map[fsm.NodeID]Peer {
	return map[fsm.NodeID]Peer{"n1": {Role: "leader", Gossip: "alive"}}
}

func (m *memory) TransferLeadership(context.Context) error {
	return fmt.Errorf("%w: there is no other voter to hand over to", ErrConflict)
}

func (m *memory) RemoveNode(ctx context.Context, id fsm.NodeID) error {
	cmd, err := fsm.NewCommand(fsm.CmdRemoveNode, fsm.RequestID{}, "test", fsm.RemoveNode{Node: id})
	if err != nil {
		return err
	}
	r, _, err := m.Propose(ctx, cmd)
	if err == nil && r.Code == fsm.CodeNotFound {
		err = fmt.Errorf("%w: %s", ErrNotFound, r.Detail)
	}
	return err
}

func (m *memory) SaveSnapshot(_ context.Context, w io.Writer) error {
	if m.snapshot != nil {
		return m.snapshot(w)
	}
	_, err := io.WriteString(w, "snapshot bytes")
	return err
}

func (m *memory) RestoreSnapshot(_ context.Context, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	if bytes.HasPrefix(b, []byte("bad")) {
		return fmt.Errorf("%w: it is no snapshot", ErrInvalid)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restored = b
	return nil
}

func (m *memory) NotReady() []string { return m.notReady }

// run takes a task through one attempt on n1.
func (m *memory) run(t testing.TB, id fsm.TaskID, result fsm.AttemptResult) {
	t.Helper()
	m.must(t, fsm.CmdAssign, "", fsm.Assign{Assignments: []fsm.Assignment{{Task: id, Attempt: 1, Node: "n1"}}})
	m.must(t, fsm.CmdReport, "", fsm.Report{Node: "n1", Incarnation: 1, Reports: []fsm.AttemptReport{{Task: id, Attempt: 1, Result: result}}})
}

// words is an Authenticator of tokens that are a principal and a role.
type words struct{}

func (words) Authenticate(r *http.Request) (string, fsm.Role, error) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "", 0, errors.New("no credential")
	}
	if text == "expired" {
		return "", 0, expired{}
	}
	if text == "often" {
		return "", 0, often{}
	}
	name, roleName, _ := strings.Cut(text, ":")
	role, ok := numberOf[fsm.Role](roleNames, roleName)
	if !ok {
		return "", 0, errors.New("not a token")
	}
	return "token:" + name, role, nil
}

type expired struct{}

func (expired) Error() string { return "expired" }
func (expired) Expired() bool { return true }

type often struct{}

func (often) Error() string             { return "too many failures" }
func (often) RetryAfter() time.Duration { return 7 * time.Second }

// ladder is a Policy: the least role by operation.
type ladder map[string]fsm.Role

func (l ladder) Decide(action string, role fsm.Role) (bool, bool) {
	least, known := l[action]
	if action == "cancel-task" && role == fsm.RoleSubmitter {
		return true, true
	}
	return !known && role != 0 || known && role >= least, false
}

// journal is an Audit in memory.
type journal struct {
	mu      sync.Mutex
	lines   []string
	broken  error
	pending int
}

func (j *journal) Begin(context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken == nil {
		j.pending++
	}
	return j.broken
}

type journalAudit struct{ *journal }

func (j journalAudit) End(principal, _, action, target, outcome string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pending--
	j.lines = append(j.lines, strings.Join([]string{principal, action, target, outcome}, " "))
}

func (j journalAudit) Note(principal, _, action, _, outcome string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, strings.Join([]string{principal, action, "refused", outcome}, " "))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string{}, j.lines...)
}

// counterMinter makes tokens without randomness.
type counterMinter struct {
	mu sync.Mutex
	n  int
}

func (m *counterMinter) Mint(join bool) (string, [32]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	kind := "hf_"
	if join {
		kind = "hfj_"
	}
	id := fmt.Sprintf("id%d", m.n)
	return id, sha256.Sum256([]byte(id)), kind + id + "_secret", nil
}
