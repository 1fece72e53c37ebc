package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/client"
	"holdfast/fsm"
	"holdfast/transport/pki"
)

// newToken makes a token of the API and returns its ID and text.
func newToken(t *testing.T, n *Node, role string) *client.NewToken {
	t.Helper()
	token, err := socketClient(t, n).CreateToken(t.Context(), client.TokenRequest{Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func fastClient(t *testing.T, token string, nodes ...*Node) *client.Fast {
	t.Helper()
	cfg := client.Config{Token: token, CAPin: pki.Pin(nodes[0].creds.ca)}
	for _, n := range nodes {
		cfg.Addrs = append(cfg.Addrs, n.Addr())
	}
	f, err := client.NewFast(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// payload is a spec whose command carries 128 bytes, different for each i. It
// never runs: no node has the ability.
func payload(i int) client.TaskSpec {
	return client.TaskSpec{Name: strconv.Itoa(i), Command: []string{"true", fmt.Sprintf("%0128d", i)}, Abilities: []string{"nowhere"}}
}

// submitMany submits numbered tasks from many goroutines and returns who got
// which ID; before runs before each is handed out. An error fails the test.
func submitMany(t *testing.T, f *client.Fast, from, count int, before func(i int)) map[string]int {
	t.Helper()
	const goroutines = 64
	var mu sync.Mutex
	got := map[string]int{}
	next := make(chan int)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range next {
				s, err := f.Submit(t.Context(), []client.TaskSpec{payload(i)})
				if err != nil {
					t.Errorf("task %d: %v", i, err)
					continue
				}
				mu.Lock()
				got[s.ID(0)] = i
				mu.Unlock()
			}
		})
	}
	for i := range count {
		before(i)
		next <- from + i
	}
	close(next)
	wg.Wait()
	return got
}

// checkExactlyOnce lists every task and wants each acknowledged one once, with
// its own command, and no other.
func checkExactlyOnce(t *testing.T, n *Node, want map[string]int) {
	t.Helper()
	c := socketClient(t, n)
	seen := map[string]bool{}
	for task, err := range c.List(t.Context(), client.ListFilter{Limit: 1000}) {
		if err != nil {
			t.Fatal(err)
		}
		i, ok := want[task.ID]
		switch {
		case !ok:
			t.Fatalf("task %s was never acknowledged", task.ID)
		case seen[task.ID]:
			t.Fatalf("task %s is listed twice", task.ID)
		case task.Name != strconv.Itoa(i):
			t.Fatalf("task %s is %s, not what %d submitted", task.ID, task.Name, i)
		}
		seen[task.ID] = true
	}
	if len(seen) != len(want) {
		t.Fatalf("%d tasks are listed, %d were acknowledged", len(seen), len(want))
	}
}

// leaderFirst gives the leader and the others.
func leaderFirst(nodes []*Node) (leader *Node, others []*Node) {
	for _, n := range nodes {
		if n.group.Leader().Self && leader == nil {
			leader = n
		} else {
			others = append(others, n)
		}
	}
	return leader, others
}

// guards P1, P4
func TestFastThroughAnyNode(t *testing.T) {
	leader, others := leaderFirst(threeNodes(t))
	secret := newToken(t, leader, "submitter").Secret
	got := submitMany(t, fastClient(t, secret, leader), 0, 2500, func(int) {})
	maps.Copy(got, submitMany(t, fastClient(t, secret, others[0]), 2500, 2500, func(int) {}))
	if len(got) != 5000 {
		t.Fatalf("%d tasks", len(got))
	}
	checkExactlyOnce(t, others[1], got)
	// A key names one submission, through whichever node and protocol.
	key := client.IdempotencyKey("once")
	first, err := fastClient(t, secret, leader).Submit(t.Context(), []client.TaskSpec{payload(1)}, key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := fastClient(t, secret, others[1]).Submit(t.Context(), []client.TaskSpec{payload(1)}, key)
	if err != nil || again.First != first.First {
		t.Errorf("%+v, again %+v, %v", first, again, err)
	}
	over, err := client.New(client.Config{Addrs: []string{others[0].Addr()}, Token: secret, CAPin: pki.Pin(leader.creds.ca)})
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	if task, err := over.Submit(t.Context(), payload(1), key); err != nil || task.ID != first.ID(0) {
		t.Errorf("over HTTP %+v, %v", task, err)
	}
	var problem *client.Problem
	if _, err := fastClient(t, secret, leader).Submit(t.Context(), []client.TaskSpec{payload(2)}, key); !errors.As(err, &problem) || problem.Code() != client.CodeConflict {
		t.Errorf("the key with another task: %v", err)
	}
}

// guards P8
func TestFastAccess(t *testing.T) {
	cfg := testConfig(t, "a")
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, cfg)
	ready(t, n)
	submit := func(f *client.Fast) string {
		var problem *client.Problem
		switch _, err := f.Submit(t.Context(), []client.TaskSpec{payload(1)}); {
		case err == nil:
			return ""
		case errors.As(err, &problem):
			return problem.Code()
		default:
			return err.Error()
		}
	}
	for role, code := range map[string]string{"viewer": client.CodeForbidden, "submitter": "", "operator": "", "admin": ""} {
		if got := submit(fastClient(t, newToken(t, n, role).Secret, n)); got != code {
			t.Errorf("%s: %q", role, got)
		}
	}
	if got := submit(fastClient(t, "hf_nonsense", n)); got != client.CodeUnauthenticated {
		t.Errorf("no token: %q", got)
	}
	token := newToken(t, n, "submitter")
	f := fastClient(t, token.Secret, n)
	if got := submit(f); got != "" {
		t.Fatal(got)
	}
	if err := socketClient(t, n).RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	if got := submit(f); got != client.CodeUnauthenticated {
		t.Errorf("with a revoked token: %q", got)
	}
}

// guards P1, P5: what was acknowledged while leaders changed is there, once.
func TestFastThroughLeaderChanges(t *testing.T) {
	nodes := threeNodes(t)
	leader, others := leaderFirst(nodes)
	f := fastClient(t, newToken(t, leader, "submitter").Secret, others[0], leader, others[1])
	var transfers sync.WaitGroup
	var moved atomic.Int32
	got := submitMany(t, f, 0, 3000, func(i int) {
		if i%600 != 300 {
			return
		}
		transfers.Go(func() { // while the others go on
			if leader, _ := leaderFirst(nodes); leader != nil && leader.group.TransferLeadership(t.Context()) == nil {
				moved.Add(1)
			}
		})
	})
	transfers.Wait()
	if moved.Load() == 0 {
		t.Error("leadership never moved")
	}
	if len(got) != 3000 {
		t.Fatalf("%d tasks", len(got))
	}
	checkExactlyOnce(t, others[1], got)
}

// Whatever waits at a node that stops ends by itself: nothing has to be cut
// off.
func TestStoppingEndsWhatWaits(t *testing.T) {
	cfg := testConfig(t, "a")
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, cfg)
	ready(t, n)
	secret := newToken(t, n, "submitter").Secret
	fast := fastClient(t, secret, n)
	if _, err := fast.Submit(t.Context(), []client.TaskSpec{payload(1)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	over, err := client.New(client.Config{Addrs: []string{n.Addr()}, Token: secret, CAPin: pki.Pin(n.creds.ca)})
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	for _, c := range []*client.Client{socketClient(t, n), over} {
		task, err := c.Submit(ctx, payload(2))
		if err != nil {
			t.Fatal(err)
		}
		asking.Go(func() { _, _ = c.Wait(ctx, task.ID) })
		asking.Go(func() {
			if r, err := c.Output(ctx, task.ID, client.OutputOptions{Follow: true}); err == nil {
				_, _ = io.Copy(io.Discard, r)
				_ = r.Close()
			}
		})
		specs, answered := make(chan client.TaskSpec, 1), make(chan struct{})
		specs <- payload(3)
		asking.Go(func() {
			first := sync.OnceFunc(func() { close(answered) })
			for range c.SubmitStream(ctx, specs) {
				first()
			}
			first()
		})
		<-answered
		until(t, "a wait and a follow", func() error {
			n.watch.mu.Lock()
			defer n.watch.mu.Unlock()
			id, err := fsm.ParseTaskID(task.ID)
			if err == nil && len(n.watch.tasks[id]) < 2 {
				err = fmt.Errorf("%d watch", len(n.watch.tasks[id]))
			}
			return err
		})
	}
	if !n.stopAPI() {
		t.Error("requests had to be cut off")
	}
}
