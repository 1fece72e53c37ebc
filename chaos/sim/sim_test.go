package sim

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

const module = "../.."

func TestFindModule(t *testing.T) {
	want, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FindModule("."); err != nil || got != want {
		t.Errorf("from a folder inside: %q, %v, want %q", got, err, want)
	}
	if got, err := FindModule(os.TempDir()); !errors.Is(err, ErrNoSource) {
		t.Errorf("from elsewhere: %q, %v", got, err)
	}
}

// A run of the real thing, and what is made of it.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	r, err := Run(context.Background(), Options{Module: module, Seed: 3, Span: 5 * time.Second, Out: &out})
	if err != nil || r.Seeds != 1 || r.Simulated < 5*time.Second || len(r.Problems) != 0 {
		t.Errorf("%+v, %v\n%s", r, err, out.String())
	}
}

func TestReadingProblems(t *testing.T) {
	var l lines
	_, _ = l.Write([]byte("    sim_test.go:78: refused at 1m29.795s: x was refused and is there as t629\n" +
		"    sim_test.go:80: seed 47: 5 nodes\n        repeat it: go test ./node/sim -run 'TestSimulation$' -sim.seed 47 -sim.span 1m0s\n" +
		"    sim_test.go:82: 12 seeds, 1h30m0s simulated in 1.02s\n"))
	r := l.result()
	if !slices.Equal(r.Problems, []string{"refused at 1m29.795s: x was refused and is there as t629"}) ||
		!slices.Equal(r.Failed, []uint64{47}) || r.Seeds != 12 || r.Simulated != 90*time.Minute {
		t.Errorf("%+v", r)
	}
}

var traceHash = regexp.MustCompile(`trace ([0-9a-f]{16})`)

// The same seed is the same run, twice in two processes.
func TestReplayIsExact(t *testing.T) {
	ctx := context.Background()
	command, err := exact(ctx, module, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for range 2 {
		var out bytes.Buffer
		o := Options{Module: module, Seed: 9, Span: time.Second, Out: &out}
		r, err := run(ctx, o, command[0], append(command[1:], o.flags()...))
		if err != nil || r.Seeds != 1 {
			t.Fatalf("%+v, %v\n%s", r, err, out.String())
		}
		m := traceHash.FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("no hash in\n%s", out.String())
		}
		hashes = append(hashes, m[1])
	}
	if hashes[0] != hashes[1] {
		t.Errorf("two replays of one seed have traces %v", hashes)
	}
}
