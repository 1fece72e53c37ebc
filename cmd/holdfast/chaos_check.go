package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/chaos/check"
	"holdfast/chaos/report"
)

func (a *app) chaosCheckCmd() *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Judge the kept history of a chaos run again",
		Long: `Read the history that a chaos run kept in its folder, judge it with the checkers
of this binary, and write report.html, report.json and junit.xml into the folder.
Nothing is run, and no cluster is asked.

Ends as 'chaos run' does: 0 held, 1 safety violated, 2 bound violated,
4 inconclusive, 6 heal not verified; 3 if the folder holds no history.`,
		Example: "  holdfast chaos check /var/tmp/run7\n  holdfast chaos check --patience 10m /var/tmp/soak",
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := report.Make(args[0], report.Options{Patience: patience})
			if err != nil {
				return &exitError{exitNotFound, fmt.Errorf("judge the run in %s: %w", args[0], err)}
			}
			if err := a.emit(r, func() {
				a.printVerdicts(a.out, r.Judgement)
				fmt.Fprintf(a.out, "%s; report in %s\n", r.Verdict, filepath.Join(args[0], report.HTMLFile))
			}); err != nil {
				return err
			}
			return silently(r.Code)
		},
	}
	c.Flags().DurationVar(&patience, "patience", time.Minute, "time for the search for linearizations; what is left is undecided")
	return c
}

var outcomeColour = map[check.Outcome]string{check.Held: green, check.Violated: red, check.Undecided: yellow}

// printVerdicts prints a line per check, violations below it, and the times
// without writes.
func (a *app) printVerdicts(w io.Writer, j *check.Judgement) {
	for _, v := range j.Verdicts {
		outcome := fmt.Sprintf("%-13s", strings.ReplaceAll(string(v.Outcome), "_", " "))
		line := fmt.Sprintf("%-32s %d %s", v.Check, v.Judged, v.Unit)
		if v.Why != "" {
			line += ": " + v.Why
		}
		fmt.Fprintf(w, "%s %s\n", a.paint(a.outTTY, outcomeColour[v.Outcome], outcome), clean(line))
		for _, x := range v.Violations {
			fmt.Fprintf(w, "              %.3f s %s %s\n", float64(x.At)/1e9, x.Task, clean(x.Text))
		}
		if more := v.Count - int64(len(v.Violations)); more > 0 {
			fmt.Fprintf(w, "              and %d more\n", more)
		}
	}
	for _, r := range j.Failover {
		fmt.Fprintf(w, "%-13s n %d, p50 %s, p99 %s, max %s without an acknowledged write\n", r.Fault, r.N, millis(r.P50), millis(r.P99), millis(r.Max))
	}
}

func millis(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }
