package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"holdfast/client"
	"holdfast/consensus"
	"holdfast/consensus/storage"
	"holdfast/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	goleak.VerifyTestMain(m)
}

// testConfig is a node that finds its place within tens of milliseconds.
func testConfig(t *testing.T, name string) Config {
	t.Helper()
	c := Defaults()
	c.Data = filepath.Join(t.TempDir(), name)
	c.Name, c.Listen = name, "127.0.0.1:0"
	c.Stable = Duration(50 * time.Millisecond)
	c.Drain = Duration(time.Second)
	return c
}

func startNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	return startParts(t, cfg, parts{})
}

func startParts(t *testing.T, cfg Config, p parts) *Node {
	t.Helper()
	n, err := start(t.Context(), cfg, hclog.NewNullLogger(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("shutdown of %s: %v", cfg.Name, err)
		}
	})
	return n
}

// until polls a condition that nothing announces.
func until(t *testing.T, what string, holds func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ready(t *testing.T, n *Node) {
	t.Helper()
	until(t, "node "+n.cfg.Name, func() error {
		if why := (backend{n}).NotReady(); len(why) > 0 || !n.registered.Load() {
			return fmt.Errorf("registered %v, %v", n.registered.Load(), why)
		}
		return n.Cause()
	})
}

func socketClient(t *testing.T, n *Node) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{UnixSocket: n.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// threeNodes makes three nodes in this process, over real sockets.
func threeNodes(t *testing.T) []*Node {
	t.Helper()
	return threeNodesOf(t, func(string) parts { return parts{} })
}

func threeNodesOf(t *testing.T, of func(name string) parts) []*Node {
	t.Helper()
	first := testConfig(t, "a")
	if _, err := Init(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	nodes := []*Node{startParts(t, first, of("a"))}
	ready(t, nodes[0])
	admin := socketClient(t, nodes[0])
	for _, name := range []string{"b", "c"} {
		token, err := admin.CreateToken(t.Context(), client.TokenRequest{Role: "node", Uses: 1})
		if err != nil {
			t.Fatal(err)
		}
		cfg := testConfig(t, name)
		if _, err := Join(t.Context(), cfg, token.Secret, []string{nodes[0].Addr()}); err != nil {
			t.Fatal(err)
		}
		n := startParts(t, cfg, of(name))
		ready(t, n)
		nodes = append(nodes, n)
	}
	until(t, "three voters", func() error {
		voters := 0
		for _, m := range nodes[0].group.Members() {
			if m.Voter {
				voters++
			}
		}
		if voters != 3 {
			return fmt.Errorf("%d", voters)
		}
		return nil
	})
	return nodes
}

func TestThreeNodesRunATask(t *testing.T) {
	nodes := threeNodes(t)
	submit, read := socketClient(t, nodes[1]), socketClient(t, nodes[2])
	task, err := submit.Submit(t.Context(), client.TaskSpec{Command: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}})
	if err != nil {
		t.Fatal(err)
	}
	// Submitted at one node, waited for and read at another. guards P4
	done, err := read.Wait(t.Context(), task.ID)
	if err != nil {
		t.Fatal(err)
	}
	if done.State != "failed" || done.Result == nil || done.Result.ExitCode == nil || *done.Result.ExitCode != 7 {
		t.Fatalf("%+v %+v", done, done.Result)
	}
	for _, n := range nodes {
		r, err := socketClient(t, n).Output(t.Context(), task.ID, client.OutputOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		k, _ := r.Read(b)
		_ = r.Close()
		if string(b[:k]) != "out\n" {
			t.Errorf("output through %s: %q", n.cfg.Name, b[:k])
		}
	}
	// The same log gives the same state everywhere. guards P9
	index := nodes[0].group.CommitIndex()
	for _, n := range nodes {
		if err := n.group.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "equal hashes", func() error {
		if a, b, c := nodes[0].state.Hash(), nodes[1].state.Hash(), nodes[2].state.Hash(); a != b || b != c {
			return errors.New("the states differ")
		}
		return nil
	})
}

func TestLeaderIsRemovedPolitely(t *testing.T) {
	nodes := threeNodes(t)
	leader, other := nodes[0], nodes[1]
	for _, n := range nodes {
		if n.group.Leader().Self {
			leader = n
		} else {
			other = n
		}
	}
	c := socketClient(t, other)
	if err := c.RemoveNode(t.Context(), leader.ID()); err != nil {
		t.Fatal(err)
	}
	<-leader.Failed()
	if !errors.Is(leader.Cause(), ErrRemoved) {
		t.Fatal(leader.Cause())
	}
	if cfg, err := ReadConfig(folder(leader.cfg.Data).config()); err != nil || cfg.Name != leader.cfg.Name || cfg.Listen != leader.cfg.Listen {
		t.Errorf("the configuration kept with the node is %+v, %v", cfg, err)
	}
	for _, m := range other.group.Members() {
		if m.ID == leader.ID() {
			t.Error("the removed node is still in the raft group")
		}
	}
	task, err := c.Submit(t.Context(), client.TaskSpec{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if done, err := c.Wait(t.Context(), task.ID); err != nil || done.State != "succeeded" {
		t.Fatal(done, err)
	}
}

func TestJoinIsRefusedClearly(t *testing.T) {
	cfg := testConfig(t, "a")
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, cfg)
	ready(t, n)
	admin := socketClient(t, n)
	token, err := admin.CreateToken(t.Context(), client.TokenRequest{Role: "node", Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	used := testConfig(t, "used")
	if _, err := Join(t.Context(), used, token.Secret, nil); err != nil {
		t.Fatal(err)
	}
	revoked, err := admin.CreateToken(t.Context(), client.TokenRequest{Role: "node", Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.RevokeToken(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ token, code string }{
		"used up": {token.Secret, "token_used"},
		"revoked": {revoked.Secret, "token_bad"},
	} {
		var refused *JoinError
		if _, err := Join(t.Context(), testConfig(t, "x"), c.token, nil); !errors.As(err, &refused) || refused.Code != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Join(t.Context(), testConfig(t, "y"), token.Secret[:len(token.Secret)-3]+"aaa", nil); err == nil || !strings.Contains(err.Error(), "mistyped") {
		t.Errorf("mistyped: %v", err)
	}
	// A folder that holds a node is never made into another one.
	if _, err := Join(t.Context(), used, token.Secret, nil); !errors.Is(err, ErrAlreadyInitialised) {
		t.Errorf("second join into one folder: %v", err)
	}
	if _, err := Init(t.Context(), cfg); !errors.Is(err, ErrAlreadyInitialised) {
		t.Errorf("second init: %v", err)
	}
}

// A pin is all that a joining node trusts: a cluster with another key is
// refused before anything is sent to it.
func TestJoinTrustsOnlyThePin(t *testing.T) {
	a, b := testConfig(t, "a"), testConfig(t, "b")
	for _, c := range []Config{a, b} {
		if _, err := Init(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	na, nb := startNode(t, a), startNode(t, b)
	ready(t, na)
	ready(t, nb)
	token, err := socketClient(t, na).CreateToken(t.Context(), client.TokenRequest{Role: "node", Uses: 1})
	if err != nil {
		t.Fatal(err)
	}
	nt := testConfig(t, "new")
	// The address that was named is the only one that is asked: those in the
	// token would take the node.
	_, err = Join(t.Context(), nt, token.Secret, []string{nb.Addr()})
	if !errors.Is(err, ErrWrongCluster) || !strings.Contains(err.Error(), "the join token is for another cluster") || !strings.Contains(err.Error(), nb.Addr()) {
		t.Fatalf("joined another cluster: %v", err)
	}
	if _, err := Join(t.Context(), nt, token.Secret, nil); err != nil {
		t.Fatalf("the token's own cluster: %v", err)
	}
}

func TestStartRefusesBadFolders(t *testing.T) {
	cfg := testConfig(t, "a")
	if _, err := Start(t.Context(), cfg, hclog.NewNullLogger()); !errors.Is(err, ErrNotInitialised) {
		t.Fatalf("empty folder: %v", err)
	}
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	key := folder(cfg.Data).nodeKey()
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), cfg, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("readable key: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, cfg)
	ready(t, n)
	if _, err := Start(t.Context(), cfg, hclog.NewNullLogger()); !errors.Is(err, storage.ErrInUse) {
		t.Fatalf("second process on one folder: %v", err)
	}
}

// An emptied store must not vote under its old identity. guards P1
func TestEmptiedStoreMustRejoin(t *testing.T) {
	cfg := testConfig(t, "a")
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(cfg.Data, "log.*"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, l := range logs {
		if err := os.Remove(l); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Start(t.Context(), cfg, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "join again") {
		t.Fatal(err)
	}
}

// A portable snapshot of one cluster becomes the tasks of another, which
// keeps its own identity.
func TestRestoreThroughAFollower(t *testing.T) {
	nodes := threeNodes(t)
	c := socketClient(t, nodes[0])
	task, err := c.Submit(t.Context(), client.TaskSpec{Name: "kept", Command: []string{"echo", "hi"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	var buf strings.Builder
	if _, err := c.SnapshotSave(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Submit(t.Context(), client.TaskSpec{Name: "later", Command: []string{"true"}}); err != nil {
		t.Fatal(err)
	}
	follower := nodes[0]
	for _, n := range nodes {
		if !n.group.Leader().Self {
			follower = n
		}
	}
	f := socketClient(t, follower)
	if err := f.SnapshotRestore(t.Context(), strings.NewReader("nonsense")); err == nil {
		t.Fatal("nonsense was restored")
	}
	if err := f.SnapshotRestore(t.Context(), strings.NewReader(buf.String())); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		until(t, "the restored tasks at "+n.cfg.Name, func() error {
			l, err := socketClient(t, n).ListPage(t.Context(), client.ListFilter{})
			if err == nil && (len(l.Tasks) != 1 || l.Tasks[0].Name != "kept") {
				err = fmt.Errorf("%d tasks", len(l.Tasks))
			}
			return err
		})
	}
	until(t, "a task after the restore", func() error {
		task, err := f.Submit(t.Context(), client.TaskSpec{Command: []string{"true"}})
		if err == nil {
			_, err = f.Wait(t.Context(), task.ID)
		}
		return err
	})
}

func TestLeaderErrorsCrossTheWire(t *testing.T) {
	for _, err := range []error{consensus.ErrOverloaded, consensus.ErrUnknownOutcome, consensus.ErrUnsafe} {
		n := &Node{id: "n1"}
		if got := apiError(n.leaderError(err)); got == nil || apiError(err) == nil {
			t.Errorf("%v became %v", err, got)
		}
	}
}
