package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/bench/figures"
)

// smokeBench is a bench with a binary of its own and the smallest counts: it
// shows that the parts work, and asserts no speed.
func smokeBench(t *testing.T) (context.Context, *bench) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts whole clusters")
	case os.Geteuid() != 0 && os.Getenv("CI") == "true":
		t.Fatal("the benchmarks need root")
	case os.Geteuid() != 0:
		t.Skip("needs root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "hfsmoke-") // short, for the unix sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	binary := filepath.Join(dir, "holdfast")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "holdfast/cmd/holdfast")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the binary: %v\n%s", err, out)
	}
	o, err := parse([]string{"-quick", "-binary", binary, "-dir", dir, "-out", filepath.Join(dir, "results.json"), "-clients", "8", "-conns", "2",
		"-warmup", "50ms", "-duration", "1s", "-soak", "1s", "-soak-clients", "8", "-soak-hogs", "1"}, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBench(o, testLog{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return ctx, b
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

func TestSmokeSubmissions(t *testing.T) {
	ctx, b := smokeBench(t)
	got := map[string]float64{}
	if err := errors.Join(b.rpcCommits(ctx, got), b.webCommits(ctx, got)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"rpc", "follower", "one", "https", "stream", "batch"} {
		if got[id] <= 0 {
			t.Errorf("%s was not measured: %v", id, got)
		}
	}
}

func TestSmokeSoakAndLives(t *testing.T) {
	ctx, b := smokeBench(t)
	if err := runSoak(ctx, b); err != nil {
		t.Fatal(err)
	}
	if _, err := b.sandboxLives(ctx, 5); err != nil {
		t.Fatal(err)
	}
	measured(t, b, "soak-elections", "soak-503", "soak-rate")
}

func TestSmokeDev(t *testing.T) {
	ctx, b := smokeBench(t)
	dir := filepath.Join(b.work, "dev")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.set.Define(figures.Figure{ID: "dev-again"})
	if err := b.dev(ctx, dir, "dev-again"); err != nil {
		t.Fatal(err)
	}
	measured(t, b, "dev-again")
}

func TestSmokeFailover(t *testing.T) {
	ctx, b := smokeBench(t)
	b.kills = 1
	if err := runFailover(ctx, b); err != nil {
		t.Fatal(err)
	}
	measured(t, b, "kill", "kill-timers", "cut", "stop")
	if left, _ := filepath.Glob(fmt.Sprintf("/run/netns/hfbench%d-*", os.Getpid())); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func measured(t *testing.T, b *bench, ids ...string) {
	t.Helper()
	for _, id := range ids {
		found := false
		for _, f := range b.set.Figures() {
			found = found || f.ID == id && len(f.Samples) > 0
		}
		if !found {
			t.Errorf("%s was not measured", id)
		}
	}
}
