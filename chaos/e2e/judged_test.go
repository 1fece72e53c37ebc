package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/chaos/check"
	"holdfast/chaos/cluster"
	"holdfast/chaos/history"
	"holdfast/chaos/workload"
)

// A whole run by hand: load, a leader that is killed and comes back, and the
// verdicts over what the recording clients saw of it.
//
// guards P1, P2, P3, P4, P6, P9, P10
func TestJudgedRun(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	dir := scratch(t)
	if err := os.Chmod(dir, 0o755); err != nil { // tasks walk to the ledger
		t.Fatal(err)
	}
	data := filepath.Join(dir, "cluster")
	c := start(t, ctx, cluster.Options{Dir: data})
	var pids sync.Map // a cluster's own methods are for one goroutine
	run, w, load := record(t, dir, data, c, &pids)

	loaded, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	load.Phase(history.Steady)
	go func() { ended <- load.Run(loaded) }()
	lasts(t, ctx, 2*time.Second)

	load.Phase(history.Faulted)
	lead, _ := leader(t, ctx, c)
	id := w.NextID()
	w.Add(history.Event{Kind: history.Inject, ID: id, Fault: &history.Fault{Type: "kill", Targets: []string{lead.ID}, Role: "leader"}})
	pids.Delete(filepath.Base(lead.Dir))
	kill(t, lead)
	w.Add(history.Event{Kind: history.Bit, ID: id, Text: "reaped"})
	lasts(t, ctx, time.Second)
	w.Add(history.Event{Kind: history.Heal, ID: id})
	restart(t, ctx, c, lead)
	pids.Store(filepath.Base(lead.Dir), lead.PID())
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}
	w.Add(history.Event{Kind: history.Healed, ID: id})
	load.Phase(history.Healthy)
	lasts(t, ctx, run.Limits.Healthy+100*time.Millisecond)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	load.Phase(history.Settled)
	if err := load.Settle(ctx); err != nil {
		t.Error(err)
	}
	scan(t, w, data, c)
	if err := errors.Join(w.Close(), run.Save(dir)); err != nil {
		t.Fatal(err)
	}

	j, err := check.Judge(run, history.Read(dir, run, nil), check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range j.Verdicts {
		t.Logf("%-32s %-13s %6d %s %s %q", v.Check, v.Outcome, v.Judged, v.Unit, v.Why, v.Evidence)
		// How long things take is another test's matter: this one runs beside
		// others on a busy machine.
		if v.Kind == check.Safety && (v.Outcome == check.Violated || v.Outcome == check.Undecided) {
			t.Errorf("%s: %s: %+v", v.Check, v.Outcome, v.Violations)
		}
	}
	for _, name := range []string{
		"linearizable", "acknowledged-never-lost", "request-takes-effect-once", "one-terminal-state", "no-effect-of-superseded-attempt",
		"index-never-back", "stale-within-age", "state-hashes-agree", "one-leader-per-term", "journals-ledger-and-state-agree",
		"no-leaks", "no-secret-on-disk", "refused-has-no-effect", "retry-and-deadline-rules", "every-task-ends", "every-heal-verified",
	} {
		if v := j.Verdict(name); v == nil || v.Outcome != check.Held {
			t.Errorf("%s did not hold, or was not exercised: %+v", name, v)
		}
	}
}

// record makes a run's folder and the load on a cluster whose nodes have these
// process IDs by name.
func record(t *testing.T, dir, data string, c *cluster.Cluster, pids *sync.Map) (*history.Run, *history.Writer, *workload.Load) {
	t.Helper()
	boot, err := workload.BootClock()
	if err != nil {
		t.Fatal(err)
	}
	run := &history.Run{
		Scenario: "by hand", Seed: 7, Tier: "T1", Started: time.Now(), Boot: boot,
		Bounds: []history.Bound{{Fault: "kill", Max: 5 * time.Second}}, Limits: history.Limits{Healthy: 2 * time.Second},
	}
	w, err := history.Create(dir, history.Since(run.Started))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	ledger, err := workload.NewLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	groups := map[string]string{}
	cfg := workload.Config{
		Token: c.AdminToken, CAPin: c.CAPin, Writer: w, Seed: run.Seed, Ledger: ledger,
		Clients: 4, Rate: 40, SweepEvery: time.Second, Canary: canary,
		Host: func(name string) *history.Counts {
			id, alive := pids.Load(name)
			if !alive {
				return nil
			}
			seen := workload.Look(id.(int), groups[name], filepath.Join(data, name))
			return &seen
		},
	}
	for _, n := range c.Nodes {
		name := filepath.Base(n.Dir)
		groups[name] = "holdfast-" + n.ID[:12]
		pids.Store(name, n.PID())
		cfg.Nodes = append(cfg.Nodes, workload.Target{Name: name, ID: n.ID, Addr: n.Addr})
		run.Nodes = append(run.Nodes, name)
	}
	load, err := workload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(load.Close)
	return run, w, load
}

// canary is a secret that tasks get.
const canary = "canary-9c1e5b-of-a-judged-run"

// scan searches the nodes' folders, with a control that lies there on purpose.
func scan(t *testing.T, w *history.Writer, data string, c *cluster.Cluster) {
	t.Helper()
	const control = "the control of the search"
	path := filepath.Join(data, "control")
	if err := os.WriteFile(path, []byte(control), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := workload.Search(data, map[string]string{"task's secret": canary, "token": c.AdminToken}, control)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	w.Add(history.Event{Kind: history.Scanned, Scan: &found})
}

// lasts lets the load work for a while: how long is what is wanted here.
func lasts(t *testing.T, ctx context.Context, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}
