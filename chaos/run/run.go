package run

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/chaos/check"
	"holdfast/chaos/fault"
	"holdfast/chaos/fault/launch"
	"holdfast/chaos/history"
	"holdfast/chaos/scenario"
	"holdfast/chaos/workload"
)

// Options say how to run a scenario.
type Options struct {
	Binary   string // path of holdfast
	Previous string // an earlier build; only for scenarios that need one
	Version  string // of the binary, for the report
	Seed     uint64 // not 0
	Out      string // folder for the run; made if it is not there, and kept
	Command  string // repeats the run
	Log      io.Writer
	// Tell hears of what happens, line by line. It may be called from several
	// goroutines at a time.
	Tell func(Line)
}

// Line is something that happened.
type Line struct {
	At    time.Duration `json:"at_ns"`
	What  string        `json:"what"` // phase, fault, note, load
	Text  string        `json:"text"`
	Fault string        `json:"fault,omitempty"`
}

// Result is what came of a run.
type Result struct {
	Dir       string           `json:"dir"`
	Run       *history.Run     `json:"run"`
	Judgement *check.Judgement `json:"judgement,omitempty"`
	// Violations are promises that a fault itself saw broken.
	Violations []string `json:"violations,omitempty"`
	Report     string   `json:"report"` // the page
	Injected   int      `json:"injected"`
	Bit        int      `json:"bit"`
	Skipped    int      `json:"skipped"` // nobody had the role
	Acked      int64    `json:"acknowledged"`
	Elections  int      `json:"elections"`
	Why        []string `json:"why,omitempty"` // of a code that no verdict explains
	Code       int      `json:"code"`
}

// The codes beside those of package check.
const (
	CodeCouldNotRun = 3
	CodeHalted      = 5
)

// runner is one run.
type runner struct {
	scn   scenario.Scenario
	opt   Options
	lab   *fault.Lab
	load  *workload.Load
	hist  *history.Writer
	meta  *history.Run
	tap   *tap
	start time.Time
	// canary is a secret of the run's tasks; no disk may have it in clear.
	canary string
	res    Result
}

// Run runs a scenario. An error means that it could not run: what was found
// until then is in the result all the same.
func Run(ctx context.Context, scn scenario.Scenario, opt Options) (*Result, error) {
	r := &runner{scn: scn, opt: opt, canary: "canary-" + rand.Text()}
	if opt.Tell == nil {
		r.opt.Tell = func(Line) {}
	}
	r.res = Result{Dir: opt.Out, Code: CodeCouldNotRun}
	err := r.all(ctx)
	if err != nil {
		r.res.Why = append(r.res.Why, err.Error())
	}
	return &r.res, err
}

func (r *runner) all(ctx context.Context) (err error) {
	if !launch.Inside() && len(r.scn.Needs()) > 0 {
		return errors.New("this scenario needs namespaces of its own: run it as root")
	}
	bounded, cancel := context.WithTimeout(ctx, r.scn.Stop.After.D())
	defer cancel()
	if err := r.begin(bounded); err != nil {
		return err
	}
	err = r.cluster(bounded)
	closed := r.lab.Close(context.WithoutCancel(ctx))
	if serr := r.hist.Close(); serr != nil {
		err = errors.Join(err, serr)
	}
	if err != nil {
		return errors.Join(err, closed)
	}
	if closed != nil {
		r.res.Why = append(r.res.Why, "end the cluster: "+closed.Error())
	}
	switch {
	case ctx.Err() != nil:
		r.meta.Stopped = "halted"
	case bounded.Err() != nil:
		r.meta.Stopped = fmt.Sprintf("it took longer than stop.after, %s", r.scn.Stop.After)
	}
	if err := r.meta.Save(r.opt.Out); err != nil {
		return err
	}
	return r.judge()
}

// begin makes the folder, the history and the cluster.
func (r *runner) begin(ctx context.Context) error {
	if err := openFolder(r.opt.Out); err != nil {
		return err
	}
	r.start = time.Now()
	boot, err := workload.BootClock()
	if err != nil {
		return err
	}
	if r.hist, err = history.Create(r.opt.Out, history.Since(r.start)); err != nil {
		return err
	}
	r.tap = newTap()
	r.hist.Watch(r.tap.see)
	r.meta = &history.Run{
		Scenario: r.scn.Name, Seed: r.opt.Seed, Tier: "T1", Started: r.start.UTC(), Boot: boot, Command: r.opt.Command,
		Version: r.opt.Version, Machine: machine(), Bounds: r.bounds(),
		Limits: history.Limits{
			Healthy: r.scn.Steady.After.D(), LateProbes: r.scn.Steady.MaxError, Silence: r.scn.Steady.MaxPause.D(),
			Operations: r.scn.Bounds.MinAcknowledged,
		},
	}
	r.res.Run = r.meta
	if r.meta.Binary, err = hashOf(r.opt.Binary); err != nil {
		return err
	}
	r.tell("phase", "", "start %d nodes", r.scn.Cluster.Nodes)
	first := ""
	for _, step := range r.scn.Steps() {
		if step.Fault == "rolling-upgrade" {
			first = r.opt.Previous
		}
	}
	r.lab, err = fault.Start(ctx, fault.Options{
		Binary: r.opt.Binary, Previous: r.opt.Previous, First: first, Nodes: r.scn.Cluster.Nodes,
		Config: r.scn.Cluster.Config, Env: r.scn.Cluster.Env, DiskMiB: r.scn.Cluster.DiskMiB,
		Needs: r.scn.Needs(), Seed: r.opt.Seed, Log: r.opt.Log, History: r.hist,
		Note: func(format string, args ...any) { r.note(format, args...) },
	})
	if err != nil {
		return errors.Join(err, r.hist.Close())
	}
	return nil
}

// bounds are those of the scenario, for every kind of fault.
func (r *runner) bounds() []history.Bound {
	return []history.Bound{{Fault: "*", P99: r.scn.Bounds.FailoverP99.D(), Max: r.scn.Bounds.NoWrites.D()}}
}

// cluster is the part of the run with a cluster.
func (r *runner) cluster(ctx context.Context) error {
	if err := r.loaded(); err != nil {
		return err
	}
	defer r.load.Close()
	if err := r.meta.Save(r.opt.Out); err != nil { // for whoever finds a killed run
		return err
	}
	// The load goes on while faults are healed, also after a halt.
	loadCtx, endLoad := context.WithCancel(context.WithoutCancel(ctx))
	defer endLoad()
	loadDone := make(chan error, 1)
	r.load.Phase(history.Steady)
	go func() { loadDone <- r.load.Run(loadCtx) }()
	keeper := r.keep(loadCtx)

	err := r.phases(ctx)
	endLoad()
	err = errors.Join(err, <-loadDone)
	keeper()
	if err != nil || ctx.Err() != nil {
		return err
	}
	r.settle(ctx)
	return nil
}

// phases are the steady state, the faults, and the time after them.
func (r *runner) phases(ctx context.Context) error {
	r.tell("phase", "", "wait for the steady state")
	if err := r.steady(ctx, r.scn.Steady.Within.D()); err != nil {
		if ctx.Err() != nil {
			return nil // halted
		}
		return fmt.Errorf("the cluster did not get to its steady state: %w", err)
	}
	r.load.Phase(history.Faulted)
	r.tap.begin()
	r.faults(ctx)
	if ctx.Err() != nil {
		return nil
	}
	r.tell("phase", "", "all is healed: watch for %s", r.scn.Steady.After)
	if err := r.steady(ctx, r.scn.Bounds.Recover.D()); err != nil {
		r.res.Why = append(r.res.Why, "the steady state did not come back: "+err.Error())
		r.note("the steady state did not come back: %v", err)
	}
	r.load.Phase(history.Healthy)
	pass(ctx, r.scn.Steady.After.D()+healthySlack)
	return nil
}

// healthySlack is more than the checker's clock and ours may differ by.
const healthySlack = 50 * time.Millisecond

// settlePatience bounds the wait for the last task and for equal states.
const settlePatience = 3 * time.Minute

func (r *runner) settle(ctx context.Context) {
	r.load.Phase(history.Settled)
	r.tell("phase", "", "settle: wait for the last task")
	short, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	if err := r.load.Settle(short); err != nil {
		r.note("%v", err)
	}
	r.scan()
}

// loaded makes the load.
func (r *runner) loaded() error {
	ledger, err := workload.NewLedger(r.opt.Out)
	if err != nil {
		return err
	}
	_, token, pin := r.lab.Access()
	w := r.scn.Workload
	cfg := workload.Config{
		Token: token, CAPin: pin, Writer: r.hist, Seed: r.opt.Seed, Ledger: ledger,
		Clients: w.Clients, Rate: w.Rate, Mix: w.Mix, Tasks: w.Tasks,
		ProbeEvery: w.Prober.Every.D(), ProbeTimeout: w.Prober.Timeout.D(), Canary: r.canary, Host: r.host,
	}
	for _, n := range r.lab.Nodes() {
		cfg.Nodes = append(cfg.Nodes, workload.Target{Name: n.Name, ID: n.ID, Addr: n.Addr})
		r.meta.Nodes = append(r.meta.Nodes, n.Name)
	}
	r.load, err = workload.New(cfg)
	return err
}

func (r *runner) tell(what, fault, format string, args ...any) {
	r.opt.Tell(Line{At: time.Since(r.start), What: what, Fault: fault, Text: fmt.Sprintf(format, args...)})
}

// note is for people, and kept.
func (r *runner) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.hist.Add(history.Event{Kind: history.Note, Text: text})
	r.tell("note", "", "%s", text)
}

// pass lets time go by, or ctx end.
func pass(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// openFolder makes a run's folder. The tasks, which are another user, must be
// able to walk to the ledger in it.
func openFolder(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("make the run's folder: %w", err)
		}
		if st.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("the run's folder %s: tasks of another user cannot walk through %s; choose --out elsewhere, or chmod o+x", dir, at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
