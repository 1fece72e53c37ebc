package run

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/chaos/workload"
)

const (
	// keepEvery is a service manager's patience.
	keepEvery = 500 * time.Millisecond
	// loadEvery is the rhythm of the progress.
	loadEvery = time.Second
)

// keep starts nodes that have ended without a fault that owns them, and tells of
// the load. It returns what ends it.
func (r *runner) keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var told time.Time
		for ctx.Err() == nil {
			for _, n := range r.lab.Nodes() {
				if n.Alive() || r.lab.Owned(n) {
					continue
				}
				r.note("%s ended by itself with status %d and is started again; its last words: %s", n.Name, n.ExitCode(), lastLine(n.Log()))
				if err := r.lab.Restart(n); err != nil {
					r.note("start %s: %v", n.Name, err)
				}
			}
			if time.Since(told) >= loadEvery {
				told = time.Now()
				now := r.hist.Now()
				acked, lost := r.tap.rates(now-loadEvery, now)
				r.tell("load", "", "%.0f writes/s acknowledged, %.0f %% of probes lost", acked, 100*lost)
			}
			pass(ctx, keepEvery)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// host is what a node, by the name of its address, holds of the host; nil if it
// does not run.
func (r *runner) host(place string) *history.Counts {
	for _, n := range r.lab.Nodes() {
		if n.Place() != place || !n.Alive() {
			continue
		}
		const idLength = 12 // of an ID in the name of a node's cgroup
		c := workload.Look(n.PID(), "holdfast-"+n.ID[:min(idLength, len(n.ID))], n.Dir)
		return &c
	}
	return nil
}

// scan searches the nodes' folders for the run's secrets in clear.
func (r *runner) scan() {
	const control = "the control of the search for secrets"
	path := filepath.Join(r.lab.Dir(), "control")
	err := os.WriteFile(path, []byte(control), 0o600)
	if err == nil {
		_, token, _ := r.lab.Access()
		var found history.Scan
		found, err = workload.Search(r.lab.Dir(), map[string]string{"task's secret": r.canary, "admin's token": token}, control)
		if err = errors.Join(err, os.Remove(path)); err == nil {
			r.hist.Add(history.Event{Kind: history.Scanned, Scan: &found})
		}
	}
	if err != nil {
		r.note("search for secrets: %v", err)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
