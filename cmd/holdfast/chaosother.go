package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/chaos/run"
	"holdfast/chaos/scenario"
	"holdfast/chaos/scenarios"
)

func (a *app) chaosListCmd() *cobra.Command {
	var faults, names bool
	c := &cobra.Command{
		Use: "list", Short: "List the shipped scenarios, or the faults", Args: exactArgs(0),
		Example: "  holdfast chaos list\n  holdfast chaos list --faults",
		RunE: func(*cobra.Command, []string) error {
			if faults {
				return a.emit(scenario.Faults, func() {
					t := a.table("GROUP", "FAULT", "TIERS", "ON", "WHAT")
					for _, f := range scenario.Faults {
						t.row(f.Group, f.Name, words(f.Tiers), strings.Join(f.On, " "), f.About)
					}
					t.print(a.out)
				})
			}
			all, err := scenarios.All()
			if err != nil {
				return err
			}
			if names {
				for _, s := range all {
					if s.Has(scenario.Live) && !needsBuild(s) && s.Name != "soak" {
						fmt.Fprintln(a.out, s.Name)
					}
				}
				return nil
			}
			return a.emit(all, func() {
				t := a.table("SCENARIO", "TIERS", "LENGTH", "GUARDS", "WHAT")
				for _, s := range all {
					t.row(s.Name, words(s.Tiers), s.Workload.For.String(), strings.Join(s.Guards, " "), s.About)
				}
				t.print(a.out)
			})
		},
	}
	c.Flags().BoolVar(&names, "names", false, "print the names of those that run here by themselves, for scripts")
	c.Flags().BoolVar(&faults, "faults", false, "list the faults that a scenario can name")
	return c
}

func words[T ~string](list []T) string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return strings.Join(out, " ")
}

func (a *app) chaosValidateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "validate SCENARIO|FILE...", Short: "Check scenarios without running them", Args: someArgs,
		Example: "  holdfast chaos validate mine.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			var found []scenario.Scenario
			for _, name := range args {
				scn, err := findScenario(name)
				if err != nil {
					return usagef("%w", err)
				}
				found = append(found, scn)
			}
			return a.emit(found, func() {
				for _, s := range found {
					fmt.Fprintf(a.out, "%s is valid: tiers %s, %d fixed faults, %s\n", s.Name, words(s.Tiers), len(s.Schedule), drawn(s))
				}
			})
		},
	}
}

func drawn(s scenario.Scenario) string {
	if s.Random == nil {
		return "none drawn"
	}
	return fmt.Sprintf("%d kinds drawn", len(s.Random.Pick))
}

func (a *app) chaosDoctorCmd() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Say which faults this host can do, and why not", Args: exactArgs(0),
		Example: "  holdfast chaos doctor --json",
		RunE: func(c *cobra.Command, _ []string) error {
			report := run.Examine(c.Context())
			if err := a.emit(report, func() {
				t := a.table("NEED", "HERE", "FAULTS", "WHY NOT")
				for _, n := range report {
					can, why := "yes", ""
					if n.Problem != "" {
						can, why = "no", n.Problem
					}
					t.row(string(n.Need), can, strings.Join(n.Faults, " "), why)
				}
				t.print(a.out)
			}); err != nil {
				return err
			}
			for _, n := range report {
				if n.Problem != "" && n.Need != scenario.NeedBuild {
					return silently(exitFailure)
				}
			}
			return nil
		},
	}
}

func (a *app) chaosHaltCmd() *cobra.Command {
	return &cobra.Command{
		Use: "halt", Short: "Heal what is broken and end every chaos run on this host", Args: exactArgs(0),
		Long: `End every chaos run on this host: each heals what it has broken, judges what it
has seen so far, and ends with status 5. With none there is nothing to do.`,
		Example: "  holdfast chaos halt",
		RunE: func(c *cobra.Command, _ []string) error {
			halted, err := run.Halt(c.Context())
			if err != nil {
				return err
			}
			return a.emit(halted, func() {
				for _, r := range halted {
					fmt.Fprintf(a.out, "halted: process %d, %s\n", r.PID, r.Dir)
				}
				if len(halted) == 0 {
					fmt.Fprintln(a.out, "no chaos run on this host")
				}
			})
		},
	}
}
