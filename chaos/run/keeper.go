package run

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"holdfast/chaos/fault"
	"holdfast/chaos/history"
)

const (
	// keepEvery is a service manager's patience.
	keepEvery = 500 * time.Millisecond
	// countsEvery is how often the host is looked at.
	countsEvery = 2 * time.Second
	// loadEvery is the rhythm of the progress.
	loadEvery = time.Second
)

// keep starts nodes that have ended without a fault that owns them, notes what
// nodes hold of the host, and tells of the load. It returns what ends it.
func (r *runner) keep(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var counted, told time.Time
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
			if time.Since(counted) >= countsEvery {
				counted = time.Now()
				r.counts()
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

// counts notes what each node holds of the host.
func (r *runner) counts() {
	for _, n := range r.lab.Nodes() {
		if c := held(n); c != nil {
			r.hist.Add(history.Event{Kind: history.Sample, Node: n.Name, Counts: c})
		}
	}
}

// held looks at one node's process; nil if there is none.
func held(n *fault.Node) *history.Counts {
	if !n.Alive() {
		return nil
	}
	pid := n.PID()
	proc := "/proc/" + strconv.Itoa(pid)
	c := &history.Counts{Process: strconv.Itoa(pid), Goroutines: -1, Descriptors: -1, Processes: len(fault.Descendants(pid)), Mounts: -1, Memory: -1}
	if fds, err := os.ReadDir(proc + "/fd"); err == nil {
		c.Descriptors = len(fds)
	}
	if b, err := os.ReadFile(proc + "/mountinfo"); err == nil {
		c.Mounts = strings.Count(string(b), "\n")
	}
	if b, err := os.ReadFile(proc + "/statm"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			c.Memory = pages * int64(os.Getpagesize())
		}
	}
	const idLength = 12 // of an ID in the name of a node's cgroup
	if len(n.ID) >= idLength {
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + n.ID[:idLength] + "/*/") // the pattern is right
		c.Cgroups = len(groups)
	}
	return c
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
