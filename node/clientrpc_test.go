package node

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"holdfast/client"
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
// which ID. An error fails the test.
func submitMany(t *testing.T, f *client.Fast, from, count int) map[string]int {
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

func TestFastThroughAnyNode(t *testing.T) {
	nodes := threeNodes(t)
	leader, follower := nodes[0], nodes[1]
	for _, n := range nodes {
		if n.group.Leader().Self {
			leader = n
		} else {
			follower = n
		}
	}
	secret := newToken(t, leader, "submitter").Secret
	got := submitMany(t, fastClient(t, secret, leader), 0, 2500)
	for id, i := range submitMany(t, fastClient(t, secret, follower), 2500, 2500) {
		got[id] = i
	}
	if len(got) != 5000 {
		t.Fatalf("%d tasks", len(got))
	}
	checkExactlyOnce(t, follower, got)
}
