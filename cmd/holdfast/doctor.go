package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/sandbox"
)

const doctorExitHelp = `Exit codes:
  0    everything is there, enforced, and was tried
  1    the examination itself failed
  2    wrong usage
  7    a node on this machine would run no task
  8    tasks would run, but something that is used where it is there is missing`

func (a *app) doctorCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "doctor", Short: "Examine this machine; without an argument, list what can be examined",
		Long:    "Examine this machine. Without an argument the doctors are listed.",
		Example: "  holdfast doctor\n  holdfast doctor sandbox",
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(c, args)
			}
			return a.listDoctors(c)
		},
	}
	c.AddCommand(a.doctorSandboxCmd())
	return c
}

type doctorName struct {
	Name     string `json:"name"`
	Examines string `json:"examines"`
}

func (a *app) listDoctors(c *cobra.Command) error {
	list := []doctorName{}
	for _, sub := range c.Commands() {
		list = append(list, doctorName{sub.Name(), sub.Short})
	}
	return a.emit(map[string]any{"doctors": list}, func() {
		t := a.table("DOCTOR", "EXAMINES")
		for _, d := range list {
			t.row(d.Name, d.Examines)
		}
		t.print(a.out)
	})
}

func (a *app) doctorSandboxCmd() *cobra.Command {
	var allow []string
	c := &cobra.Command{
		Use: "sandbox", Short: "Whether this machine can isolate tasks, and what to do if not", Args: exactArgs(0),
		Long: `Examine whether this machine can isolate tasks: what its kernel offers, what a
sandbox enforces, and what to do about the rest. Then real sandboxes are started
in which this program tries to get out, as every node does before it takes tasks;
each way out is listed with its outcome. Everything is thrown away at the end.
No node has to run, and no data folder is needed. Run it as root, as a node runs:
otherwise it says what it sees, and tries nothing.

--allow-missing shows what the key sandbox.allow_missing of a node's
configuration would change: ` + strings.Join(sandbox.Weakenable(), ", ") + `.

` + doctorExitHelp,
		Example: `  holdfast doctor sandbox
  holdfast doctor sandbox --json | jq -r '.features[] | select(.available=="no").remedy'
  holdfast doctor sandbox -q > /dev/null || echo not here`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := sandbox.ValidAllowMissing(allow); err != nil {
				return usagef("--allow-missing: %w", err)
			}
			return a.examineSandbox(c.Context(), allow)
		},
	}
	c.Flags().StringSliceVar(&allow, "allow-missing", nil, "features to do without (repeat, or separate by commas)")
	_ = c.RegisterFlagCompletionFunc("allow-missing", cobra.FixedCompletions(sandbox.Weakenable(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) examineSandbox(ctx context.Context, allow []string) error {
	e, err := sandbox.Examine(ctx, sandbox.Config{CgroupParent: fmt.Sprintf("doctor-%d", os.Getpid()), AllowMissing: allow})
	if err != nil {
		return err
	}
	r := reportOf(e)
	if err := a.emit(r, func() { a.showExamination(r) }); err != nil {
		return err
	}
	return silently(r.code())
}

// sandboxReport is the examination as JSON.
type sandboxReport struct {
	Verdict     string          `json:"verdict"` // complete, incomplete or cannot_isolate
	Reason      string          `json:"reason,omitempty"`
	Remedy      string          `json:"remedy,omitempty"`
	Weaker      []string        `json:"weaker,omitempty"`
	Features    []featureReport `json:"features"`
	Checks      []checkReport   `json:"checks"`
	TookSeconds float64         `json:"took_seconds"`
}

type featureReport struct {
	Feature   string `json:"feature"`
	Need      string `json:"need"`
	Available string `json:"available"` // yes, no or unknown
	Enforced  bool   `json:"enforced"`
	Detail    string `json:"detail,omitempty"`
	Remedy    string `json:"remedy,omitempty"`
}

type checkReport struct {
	Check   string `json:"check"`
	Outcome string `json:"outcome"` // held, escaped or not_tried
	Tries   string `json:"tries"`
	Detail  string `json:"detail,omitempty"`
}

// The verdicts.
const (
	verdictComplete   = "complete"
	verdictIncomplete = "incomplete"
	verdictCannot     = "cannot_isolate"
)

func reportOf(e sandbox.Examination) sandboxReport {
	r := sandboxReport{Verdict: verdictComplete, Weaker: e.Weaker, TookSeconds: e.Proof.Took.Seconds()}
	for _, f := range e.Abilities {
		available := "no"
		if f.Available {
			available = "yes"
		} else if f.Unknown {
			available = "unknown"
		}
		r.Features = append(r.Features, featureReport{f.Name, string(f.Need), available, f.Enforced, f.Detail, f.Remedy})
	}
	for _, c := range e.Proof.Checks {
		r.Checks = append(r.Checks, checkReport{c.Name, string(c.Outcome), c.Tries, c.Detail})
	}
	var without []string
	for _, f := range e.Lacks() {
		without = append(without, f.Name)
	}
	for _, c := range e.Proof.With(sandbox.NotTried) {
		without = append(without, "the proof of "+c.Name)
	}
	switch {
	case e.Cannot != nil:
		r.Verdict, r.Reason, r.Remedy = verdictCannot, e.Cannot.Ability+": "+e.Cannot.Reason, e.Cannot.Remedy
	case len(without) > 0:
		r.Verdict, r.Reason = verdictIncomplete, "without "+strings.Join(without, ", ")
	}
	return r
}

func (r sandboxReport) nothingTried() bool {
	return !slices.ContainsFunc(r.Checks, func(c checkReport) bool { return c.Outcome != string(sandbox.NotTried) })
}

func (r sandboxReport) code() int {
	switch r.Verdict {
	case verdictCannot:
		return exitCannotIsolate
	case verdictIncomplete:
		return exitIncomplete
	}
	return exitOK
}

func (a *app) showExamination(r sandboxReport) {
	t := a.table("FEATURE", "AVAILABLE", "ENFORCED", "DETAIL", "REMEDY")
	for _, f := range r.Features {
		enforced := "no"
		if f.Enforced {
			enforced = "yes"
		} else if f.Need == string(sandbox.NeedNote) {
			enforced = "" // nothing that could be
		}
		t.row(f.Feature, f.Available, enforced, f.Detail, f.Remedy)
	}
	t.print(a.out)
	a.say("")
	t = a.table("CHECK", "OUTCOME", "TRIES TO", "DETAIL")
	for _, c := range r.Checks {
		t.row(c.Check, strings.ReplaceAll(c.Outcome, "_", " "), c.Tries, c.Detail)
	}
	t.print(a.out)
	a.say("")
	switch r.Verdict {
	case verdictCannot:
		a.say("This machine cannot isolate tasks, so that a node here runs none. %s.\nDo: %s.", clean(r.Reason), clean(r.Remedy))
		if r.nothingTried() {
			a.say("Nothing was tried: what the table has was only looked at.")
		}
	case verdictIncomplete:
		a.say("This machine can isolate tasks, %s.", clean(r.Reason))
	default:
		a.say("This machine can isolate tasks: every wall is up, and nothing got out.")
	}
}
