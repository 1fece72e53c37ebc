package main

import (
	"github.com/spf13/cobra"
)

const chaosExitHelp = `Exit codes:
  0    every promise and bound held
  1    a promise was broken
  2    a bound was broken, or wrong usage
  3    it could not run
  4    inconclusive: a fault did not bite, there were too few operations, or a
       checker ran out of time
  5    halted
  6    not verified that everything was healed`

func (a *app) chaosCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "chaos",
		Short: "Break a cluster on purpose, and prove what survived",
		Long: `Break a cluster on purpose, and prove what survived.

A scenario says what is broken when, and what must hold. 'chaos run' starts a
throw-away cluster of this binary on this machine, loads it, breaks and heals
it, and judges the recorded history. Nothing outside of that cluster is touched.

` + chaosExitHelp,
		Example: "  holdfast chaos doctor\n  holdfast chaos list\n  holdfast chaos run leader-kill",
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	c.AddCommand(a.chaosRunCmd(), a.chaosListCmd(), a.chaosValidateCmd(), a.chaosCheckCmd(), a.chaosDoctorCmd(), a.chaosHaltCmd(),
		a.chaosKeyCmd(), a.chaosGuardCmd(), a.chaosGamedayCmd(),
		a.chaosSimCmd(), a.chaosReplayCmd(), a.chaosSelftestCmd())
	return c
}
