package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"holdfast/chaos/selftest"
	"holdfast/chaos/sim"
)

const fromSource = `It is built from holdfast's source, at or above the working folder, with the go
command: the simulated clock (testing/synctest) exists only in Go's tests.`

func (a *app) chaosSimCmd() *cobra.Command {
	var o sim.Options
	c := &cobra.Command{
		Use: "sim", Short: "Run whole simulated clusters, each under a seed, and judge them", Args: exactArgs(0),
		Long: `Run whole clusters in one process on a simulated clock: raft, the state machine,
the scheduler, leases, workers and clients as they are, over a simulated network,
disks, clocks and sandboxes. A seed draws the configuration, the faults and what
the clients do; with none named the seeds are new ones. A seed that finds a fault
is printed with the command that repeats it.

` + fromSource + `

Natively the Go scheduler has a say in each run, so a finding may need several
tries; 'chaos replay' runs a seed exactly.

Ends with 0 if everything held, 1 if a promise was broken, 3 if it could not run.`,
		Example: "  holdfast chaos sim --for 60s\n  holdfast chaos sim --seeds 100\n  holdfast chaos sim --seed 47 --span 60s --trace",
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = a.simOut()
			return a.simulate(&o, func() (sim.Result, error) { return sim.Run(c.Context(), o) })
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.Seed, "seed", 0, "run this seed alone")
	f.IntVar(&o.Seeds, "seeds", 0, "run so many new seeds")
	f.DurationVar(&o.For, "for", 10*time.Second, "run new seeds for so long")
	f.DurationVar(&o.Span, "span", time.Minute, "simulated time of faults in one run")
	f.BoolVar(&o.Trace, "trace", false, "print everything that happens")
	c.MarkFlagsMutuallyExclusive("seed", "seeds", "for")
	return c
}

func (a *app) chaosReplayCmd() *cobra.Command {
	var o sim.Options
	c := &cobra.Command{
		Use: "replay --seed N", Short: "Run one seed of the simulation exactly as every time", Args: exactArgs(0),
		Long: `Run one seed of the simulation built for wasip1, where there is one thread, no
clock but the simulated one and no chance but the seed's: the same seed is the
same run every time, which the printed hash of its trace shows. It is not the run
that the seed gives natively, and it is some ten times slower.

` + fromSource + `

Ends as 'chaos sim' does.`,
		Example: "  holdfast chaos replay --seed 47 --span 60s",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Seed == 0 {
				return usagef("name a seed: holdfast chaos replay --seed N")
			}
			o.Out = a.simOut()
			return a.simulate(&o, func() (sim.Result, error) { return sim.Replay(c.Context(), o) })
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.Seed, "seed", 0, "the seed")
	f.DurationVar(&o.Span, "span", time.Minute, "simulated time of faults")
	f.BoolVar(&o.Trace, "trace", false, "print everything that happens")
	return c
}

// simOut is where the simulation speaks: not where JSON goes.
func (a *app) simOut() io.Writer {
	if a.json {
		return a.err
	}
	return a.out
}

func (a *app) simulate(o *sim.Options, run func() (sim.Result, error)) error {
	var err error
	if o.Module, err = sim.FindModule("."); err != nil {
		return &exitError{exitNotFound, err}
	}
	r, err := run()
	if err != nil {
		return &exitError{exitNotFound, err}
	}
	if err := a.emit(r, func() {
		fmt.Fprintf(a.out, "%d seeds, %v simulated, %d broken promises\n", r.Seeds, r.Simulated, len(r.Problems))
	}); err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return silently(exitFailure)
	}
	return nil
}

func (a *app) chaosSelftestCmd() *cobra.Command {
	var o selftest.Options
	c := &cobra.Command{
		Use: "selftest [MUTANT...]", Short: "Take safeguards away, and see the simulation notice", Args: cobra.ArbitraryArgs,
		Long: `Build the simulation without one safeguard of the product after the other, run
each such mutant with a few seeds, and say which check noticed it and in how many
seeds. A mutant that no check notices means that the checks are worth less than
they look.

` + fromSource + `

Ends with 0 if every mutant was noticed, 1 if one was not, 3 if it could not run.`,
		Example: "  holdfast chaos selftest\n  holdfast chaos selftest no-fsync map-order",
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if o.Module, err = sim.FindModule("."); err != nil {
				return &exitError{exitNotFound, err}
			}
			o.Only, o.Out = args, a.simOut()
			findings, err := selftest.Run(c.Context(), o)
			if err != nil && !errors.Is(err, selftest.ErrNotFound) {
				return &exitError{exitNotFound, err}
			}
			if e := a.emit(findings, func() { fmt.Fprintf(a.out, "\n%s", selftest.Table(findings)) }); e != nil {
				return e
			}
			return err
		},
	}
	c.Flags().IntVar(&o.Seeds, "seeds", 10, "seeds for each mutant")
	c.Flags().DurationVar(&o.Span, "span", time.Minute, "simulated time of faults in one run")
	return c
}
