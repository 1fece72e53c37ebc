package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/chaos/check"
	"holdfast/chaos/fault"
	"holdfast/chaos/fault/launch"
	"holdfast/chaos/run"
	"holdfast/chaos/scenario"
	"holdfast/chaos/scenarios"
)

// chaosFlags are the flags of 'chaos run'.
type chaosFlags struct {
	seed     uint64
	out      string
	previous string
	length   time.Duration
	verbose  bool
}

func (a *app) chaosRunCmd() *cobra.Command {
	var o chaosFlags
	c := &cobra.Command{
		Use:   "run SCENARIO|FILE",
		Short: "Run a scenario on a throw-away cluster on this machine",
		Long: `Run a scenario, by its name or from a file, on a throw-away cluster of real
processes of this binary. It needs root for its tasks and for most faults; see
'holdfast chaos doctor'. The cluster lives in network and mount namespaces of
its own.

The folder of the run keeps the whole history; its path is printed. Ctrl-C, or
'holdfast chaos halt', heals what is broken and ends the run.

` + chaosExitHelp,
		Example: "  holdfast chaos run leader-kill\n  holdfast chaos run ./mine.yaml --seed 7 --out /var/tmp/run7",
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			scn, err := findScenario(args[0])
			if err != nil {
				return &exitError{run.CodeCouldNotRun, err}
			}
			if os.Geteuid() != 0 {
				return &exitError{run.CodeCouldNotRun, errors.New("a local cluster needs root, for its tasks and faults; without it there is the simulation")}
			}
			// The second process does all of it, in namespaces of its own.
			inside, status, err := launch.Private()
			if !inside {
				// One that was killed may have left nodes that cannot even die.
				err = errors.Join(err, fault.Sweep(context.WithoutCancel(c.Context())))
			}
			if err != nil {
				return &exitError{run.CodeCouldNotRun, err}
			}
			if !inside {
				return silently(status)
			}
			return a.chaosRun(c.Context(), scn, args[0], o)
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.seed, "seed", 0, "seed of the plan and the load (default the scenario's, else drawn)")
	f.StringVar(&o.out, "out", "", "folder for the run (default a new one in the temporary folder)")
	f.StringVar(&o.previous, "previous", "", "an earlier build, for scenarios that upgrade")
	f.DurationVar(&o.length, "for", 0, "length of the part with faults (default the scenario's)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show the nodes' logs")
	return c
}

// findScenario reads a shipped scenario or a file.
func findScenario(name string) (scenario.Scenario, error) {
	if strings.ContainsAny(name, "/.") {
		b, err := os.ReadFile(name)
		if err != nil {
			return scenario.Scenario{}, fmt.Errorf("read the scenario: %w", err)
		}
		scn, err := scenario.Parse(b)
		if err != nil {
			return scn, fmt.Errorf("%s: %w", name, err)
		}
		return scn, nil
	}
	return scenarios.Get(name)
}

func (a *app) chaosRun(ctx context.Context, scn scenario.Scenario, name string, o chaosFlags) error {
	if o.length > 0 {
		scn.Lasting(scenario.Duration(o.length))
	}
	could := func(err error) error { return &exitError{run.CodeCouldNotRun, err} }
	switch {
	case !scn.Has(scenario.Live):
		return could(fmt.Errorf("scenario %s does not run on a local cluster; its tiers are %v", scn.Name, scn.Tiers))
	case o.previous == "" && needsBuild(scn):
		return could(fmt.Errorf("scenario %s needs an earlier build: give --previous FILE", scn.Name))
	}
	for seed := scn.Seed; o.seed == 0; seed = rand.Uint64() {
		o.seed = seed
	}
	if o.out == "" {
		dir := filepath.Join(os.TempDir(), "holdfast-chaos", fmt.Sprintf("%s-%s-%d", time.Now().UTC().Format("20060102T150405"), scn.Name, o.seed))
		o.out = dir
	}
	binary, err := os.Executable()
	if err != nil {
		return could(fmt.Errorf("find this binary: %w", err))
	}
	done, err := run.Register(o.out)
	if err != nil {
		return could(err)
	}
	defer done()
	opt := run.Options{
		Binary: binary, Previous: o.previous, Version: version(), Seed: o.seed, Out: o.out,
		Command: fmt.Sprintf("holdfast chaos run %s --seed %d", name, o.seed),
		Tell:    a.chaosProgress(),
	}
	if o.verbose {
		opt.Log = a.err
	}
	a.note("run %s with seed %d in %s", scn.Name, o.seed, o.out)
	res, err := run.Run(ctx, scn, opt)
	if err != nil {
		return could(err)
	}
	if err := a.emit(res, func() { a.printChaos(a.out, res) }); err != nil {
		return err
	}
	return silently(res.Code)
}

func needsBuild(scn scenario.Scenario) bool {
	for _, n := range scn.Needs() {
		if n == scenario.NeedBuild {
			return true
		}
	}
	return false
}

// chaosProgress prints what happens as it does: on a terminal the load on one
// line that changes.
func (a *app) chaosProgress() func(run.Line) {
	if a.quiet {
		return nil
	}
	var mu sync.Mutex
	open := false
	return func(l run.Line) {
		mu.Lock()
		defer mu.Unlock()
		at := fmt.Sprintf("%7.1fs", l.At.Seconds())
		switch {
		case l.What == "load" && a.errTTY:
			fmt.Fprintf(a.err, "\r%s  %-60s", at, l.Text)
			open = true
			return
		case l.What == "load":
			return
		}
		if open {
			fmt.Fprint(a.err, "\r\x1b[K")
			open = false
		}
		fmt.Fprintf(a.err, "%s  %-5s  %s\n", at, l.What, clean(l.Text))
	}
}

// printChaos prints the verdict for people.
func (a *app) printChaos(out io.Writer, res *run.Result) {
	if res.Judgement != nil {
		a.printVerdicts(a.out, res.Judgement)
	}
	for _, v := range res.Violations {
		fmt.Fprintln(out, "broken promise:", v)
	}
	for _, w := range res.Why {
		fmt.Fprintln(out, clean(w))
	}
	fmt.Fprintf(out, "%s: %d faults injected, %d bit, %d left out; %d writes acknowledged; the leader changed %d times\n",
		chaosVerdict(res.Code), res.Injected, res.Bit, res.Skipped, res.Acked, res.Elections)
	fmt.Fprintf(out, "seed %d, report in %s\n", res.Run.Seed, res.Report)
}

func chaosVerdict(code int) string {
	switch code {
	case check.CodeHeld:
		return "HELD"
	case check.CodeSafety:
		return "A PROMISE WAS BROKEN"
	case check.CodeBound:
		return "A BOUND WAS BROKEN"
	case check.CodeInconclusive:
		return "INCONCLUSIVE"
	case check.CodeNotHealed:
		return "NOT VERIFIED THAT ALL IS HEALED"
	case run.CodeHalted:
		return "HALTED"
	}
	return "COULD NOT RUN"
}
