package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"holdfast/chaos/bench/figures"
	"holdfast/chaos/bench/load"
	"holdfast/chaos/cluster"
)

// bench is one run of the program.
type bench struct {
	options
	set   figures.Set
	work  string // removed at the end
	log   io.Writer
	begun time.Time
}

func newBench(o options, log io.Writer) (*bench, error) {
	// A short name: a unix socket's path is bounded by 108 bytes.
	work, err := os.MkdirTemp(o.dir, "hfbench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the data: %w", err)
	}
	return &bench{options: o, work: work, log: log, begun: time.Now()}, nil
}

func (b *bench) close() {
	if err := os.RemoveAll(b.work); err != nil {
		b.say("remove %s: %v", b.work, err)
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%7.1fs "+format+"\n", append([]any{time.Since(b.begun).Seconds()}, args...)...)
}

// maxQueue is the state machine's own bound; the default of a cluster is half
// of it.
const maxQueue = 2_000_000

// start starts three nodes. Without tasks they commit, and run nothing.
func (b *bench) start(ctx context.Context, tasks bool, change func(*cluster.Options)) (*cluster.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	config := filepath.Join(b.work, "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "queue_bound: %d\n", maxQueue), 0o600); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.work, "c-")
	if err != nil {
		return nil, err
	}
	opt := cluster.Options{Binary: b.binary, Nodes: 3, Dir: dir, Env: []string{
		"HOLDFAST_CONFIG=" + config, "HOLDFAST_LOG_LEVEL=warn", "HOLDFAST_DRAIN=0s",
	}}
	if !tasks {
		opt.Env = append(opt.Env, "HOLDFAST_CPU_MILLIS=-1", "HOLDFAST_MEMORY_BYTES=-1")
	}
	if change != nil {
		change(&opt)
	}
	return cluster.Start(ctx, opt)
}

// keepLogs makes a file beside the results for what the nodes of one suite
// say: what was not expected is to be explained.
func (b *bench) keepLogs(suite string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(strings.TrimSuffix(b.out, ".json") + "-" + suite + ".log")
	if err != nil {
		return nil, fmt.Errorf("keep the nodes' logs: %w", err)
	}
	return f, nil
}

// logTo makes nodes tell more, and to a file.
func logTo(f *os.File) func(*cluster.Options) {
	return func(o *cluster.Options) {
		o.Log = f
		o.Env = append(o.Env, "HOLDFAST_LOG_LEVEL=info")
	}
}

// stop ends a cluster for good.
func stop(c *cluster.Cluster, dir string) error {
	return errors.Join(c.Close(), os.RemoveAll(dir))
}

// folder is where a cluster of this program lives.
func folder(c *cluster.Cluster) string { return filepath.Dir(c.Nodes[0].Dir) }

// roles gives the leader and one follower.
func roles(ctx context.Context, c *cluster.Cluster) (leader, follower *cluster.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if leader, err = c.Leader(ctx); err != nil {
		return nil, nil, err
	}
	for _, n := range c.Running() {
		if n != leader {
			return leader, n, nil
		}
	}
	return nil, nil, errors.New("the cluster has one node only")
}

// closed measures closed-loop clients, at most so many operations, and the CPU
// time in µs that the nodes use per operation.
func (b *bench) closed(ctx context.Context, c *cluster.Cluster, clients, maxOps int, do load.Do) (load.Report, float64, error) {
	before, _, err := used(c)
	if err != nil {
		return load.Report{}, 0, err
	}
	r := load.Closed(ctx, load.Options{Clients: clients, Warmup: b.warmup, Duration: b.duration, MaxOps: maxOps}, do)
	if err := r.Err(); err != nil {
		return r, 0, err
	}
	after, _, err := used(c)
	return r, microseconds(after-before) / float64(max(1, r.All)), err
}

// program runs a program to its end and returns what it printed.
func program(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", name, err, failure.String(), out)
	}
	return out, nil
}

// results is the JSON file.
type results struct {
	Machine machine          `json:"machine"`
	Figures []figures.Figure `json:"figures"`
}

func (b *bench) write(m machine) error {
	text, err := json.MarshalIndent(results{m, b.set.Figures()}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(b.out, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	var table strings.Builder
	if err := b.print(&table, m); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(b.out, ".json")+".md", []byte(table.String()), 0o644)
}

// print writes the machine and the table, as docs/benchmarks.md shows them.
func (b *bench) print(w io.Writer, m machine) error {
	for _, line := range m.Lines() {
		if _, err := fmt.Fprintf(w, "- %s\n", line); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return figures.WriteTable(w, b.set.Figures())
}

// missed names the targets that were not reached.
func (b *bench) missed() error {
	var names []string
	for _, f := range b.set.Figures() {
		if v := f.Verdict(); v == figures.NotReached || v == figures.NotMeasured {
			names = append(names, f.What)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("not reached or not measured: %s", strings.Join(names, "; "))
}
