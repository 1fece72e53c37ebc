package client_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
)

func (n *rpcState) setSilent(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = on
}

// A node that takes requests and never answers must not keep its callers:
// neither those whose requests it has, nor those that find no room for theirs
// (the test's node takes 32 at a time).
func TestFastEndsCallsThatAreLate(t *testing.T) {
	nodes, cfg := rpcCluster(t, 1)
	cfg.Timeout, cfg.Retry.Attempts = 100*time.Millisecond, 1
	f := fast(t, cfg)
	submit := func(ctx context.Context) error {
		_, err := f.Submit(ctx, []client.TaskSpec{echo("x")})
		return err
	}
	if err := submit(t.Context()); err != nil {
		t.Fatal(err)
	}
	nodes[0].setSilent(true)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			begun := time.Now()
			err := submit(t.Context())
			if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
				t.Errorf("error %v", err)
			}
			if took := time.Since(begun); took < cfg.Timeout {
				t.Errorf("given up after %v", took)
			}
		})
	}
	wg.Wait()
	if _, n := nodes[0].counts(); n != 33 {
		t.Errorf("%d requests were sent, want 33: what is not answered keeps its room", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := submit(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's deadline: %v", err)
	}
}

// An answer that comes after its caller has gone gives its room back and
// disturbs nobody.
func TestFastOutlivesCallersThatGiveUp(t *testing.T) {
	_, cfg := rpcCluster(t, 1)
	f := fast(t, cfg)
	for range 200 { // some six times the node's room
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		if _, err := f.Submit(ctx, []client.TaskSpec{echo("x")}); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if _, err := f.Submit(t.Context(), []client.TaskSpec{echo("x")}); err != nil {
		t.Error(err)
	}
}
