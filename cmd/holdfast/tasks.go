package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) getCmd() *cobra.Command {
	return &cobra.Command{
		Use: "get TASK", Short: "Show a task", Args: exactArgs(1),
		Example:           "  holdfast get t1042\n  holdfast get t1042 --json | jq .result.exit_code",
		ValidArgsFunction: a.completeTasks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error {
				t, err := cl.Get(c.Context(), args[0])
				if err != nil {
					return err
				}
				return a.emit(t, func() { a.showTask(t) })
			})
		},
	}
}

func (a *app) showTask(t *client.Task) {
	pairs := []string{"ID", t.ID, "Name", t.Name, "State", t.State, "Owner", t.Owner}
	if t.Spec != nil {
		pairs = append(pairs, "Command", commandLine(t.Spec.Command), "Labels", labels(t.Spec.Labels), "Grants", grantsOf(t.Spec))
	}
	if t.Attempt > 0 {
		pairs = append(pairs, "Attempt", fmt.Sprint(t.Attempt), "Node", t.Node)
	}
	pairs = append(pairs, "Submitted", stamp(&t.SubmittedAt), "Started", stamp(t.StartedAt), "Finished", stamp(t.FinishedAt), "Retry at", stamp(t.RetryAt))
	if r := t.Result; r != nil {
		pairs = append(pairs, "Ended", ending(t),
			"Usage", fmt.Sprintf("%.2f s CPU, %.2f s wall, %s memory", r.Usage.CPUSeconds, r.Usage.WallSeconds, size(r.Usage.MemoryPeakBytes)),
			"Output", fmt.Sprintf("%s stdout, %s stderr", size(r.StdoutBytes), size(r.StderrBytes)),
			"Ran without", strings.Join(r.Weaker, ", "), "Not enforced", strings.Join(r.NotEnforced, ", "), "Tail", r.Tail)
	}
	a.fields(pairs...)
}

// commandLine prints arguments so that a shell would read them back.
func commandLine(args []string) string {
	var out []string
	for _, s := range args {
		if s == "" || strings.ContainsAny(s, " \t\n'\"\\$&|;<>()*?[]#~`!{}") {
			s = "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func (a *app) listCmd() *cobra.Command {
	var f client.ListFilter
	var labelWords []string
	var limit int
	var stale, watch time.Duration
	c := &cobra.Command{
		Use: "list", Short: "List tasks, newest first", Args: exactArgs(0), Aliases: []string{"ls"},
		Long: `List tasks, newest first. With --json one task per line is printed; with --quiet
the IDs alone.`,
		Example: `  holdfast list --state running,queued
  holdfast list --label team=ml --limit 500 --json
  holdfast list -q --state queued | xargs holdfast cancel`,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if f.Labels, err = parseLabels(labelWords); err != nil {
				return usagef("--label: %w", err)
			}
			var opts []client.CallOption
			if c.Flags().Changed("stale") {
				opts = append(opts, client.Stale(stale))
			}
			if limit < 1 || watch < 0 {
				return usagef("--limit must be positive, and --watch not negative")
			}
			return a.with(func(cl *client.Client) error {
				return a.repeat(c.Context(), watch, func() error { return a.list(c.Context(), cl, f, limit, opts) })
			})
		},
	}
	fl := c.Flags()
	fl.StringSliceVar(&f.States, "state", nil, "queued, running, succeeded, failed, cancelled, expired (repeat)")
	fl.StringArrayVarP(&labelWords, "label", "l", nil, "key=value (repeat)")
	fl.StringVar(&f.Owner, "owner", "", "who submitted them")
	fl.StringVar(&f.Name, "name", "", "their name")
	oldest := fl.Bool("oldest", false, "oldest first")
	fl.IntVar(&limit, "limit", 50, "how many")
	fl.DurationVar(&stale, "stale", 0, "accept an answer of that age, from any node without asking the leader")
	fl.DurationVar(&watch, "watch", 0, "print again at that interval")
	c.PreRun = func(*cobra.Command, []string) { f.Newest = !*oldest }
	_ = c.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(
		[]string{"queued", "running", "succeeded", "failed", "cancelled", "expired"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// repeat runs f once, or every interval until ctx ends.
func (a *app) repeat(ctx context.Context, every time.Duration, f func() error) error {
	if every == 0 {
		return f()
	}
	tick := time.NewTicker(max(every, 100*time.Millisecond))
	defer tick.Stop()
	for {
		if a.outTTY && !a.json {
			fmt.Fprint(a.out, "\x1b[H\x1b[2J") // home and clear
		}
		if err := f(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *app) list(ctx context.Context, cl *client.Client, f client.ListFilter, limit int, opts []client.CallOption) error {
	f.Limit = min(limit, 1000)
	tb := a.table("ID", "STATE", "NAME", "OWNER", "ATTEMPT", "NODE", "SUBMITTED", "ENDED")
	n := 0
	for t, err := range cl.List(ctx, f, opts...) {
		if err != nil {
			return err
		}
		if n == limit {
			break
		}
		n++
		switch {
		case a.json:
			if err := a.emitLine(t); err != nil {
				return err
			}
		case a.quiet:
			fmt.Fprintln(a.out, t.ID)
		default:
			end := ""
			if t.Result != nil {
				end = ending(t)
			}
			attempt := ""
			if t.Attempt > 0 {
				attempt = fmt.Sprint(t.Attempt)
			}
			tb.row(t.ID, t.State, t.Name, t.Owner, attempt, t.Node, stamp(&t.SubmittedAt), end)
		}
	}
	if !a.json && !a.quiet {
		tb.print(a.out)
	}
	return nil
}

func (a *app) waitCmd() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "wait TASK...", Short: "Wait until tasks have ended", Args: someArgs,
		Long: `Wait until all the tasks have ended. The exit code is that of the first one, in
the order given, that did not succeed; 0 if all did. With --json each ended task
is printed on a line, in the order given.

` + taskExitHelp,
		Example:           "  holdfast wait t1 t2 t3 && echo all succeeded",
		ValidArgsFunction: a.completeTasks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error { return a.wait(c.Context(), cl, args, timeout) })
		},
	}
	c.Flags().DurationVar(&timeout, "wait-timeout", 0, "give up after that long (exit code 125)")
	return c
}

// maxWaits bounds the requests that wait at the same time.
const maxWaits = 32

func (a *app) wait(ctx context.Context, cl *client.Client, ids []string, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not all tasks have ended after %v", timeout))
		defer cancel()
	}
	type end struct {
		t   *client.Task
		err error
	}
	ends := make([]end, len(ids))
	var wg sync.WaitGroup
	room := make(chan struct{}, maxWaits)
	for i, id := range ids {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			ends[i].t, ends[i].err = cl.Wait(ctx, id)
		})
	}
	wg.Wait()
	code := exitOK
	for i, e := range ends {
		if e.err != nil {
			return &exitError{exitSelf, e.err}
		}
		if a.json {
			if err := a.emitLine(e.t); err != nil {
				return err
			}
		} else {
			a.say("%s  %s  %s", ids[i], a.paint(a.outTTY, stateColour[e.t.State], e.t.State), clean(ending(e.t)))
		}
		if code == exitOK {
			code = taskCode(e.t)
		}
	}
	return silently(code)
}

func (a *app) logsCmd() *cobra.Command {
	var o client.OutputOptions
	var stderr bool
	c := &cobra.Command{
		Use: "logs TASK", Short: "Print a task's output", Args: exactArgs(1), Aliases: []string{"output"},
		Example:           "  holdfast logs t1042\n  holdfast logs -f --stderr t1042",
		ValidArgsFunction: a.completeTasks,
		RunE: func(c *cobra.Command, args []string) error {
			o.Stream = "stdout"
			if stderr {
				o.Stream = "stderr"
			}
			if o.Offset < 0 || o.Attempt < 0 {
				return usagef("--offset and --attempt must not be negative")
			}
			return a.with(func(cl *client.Client) error { return copyOutput(c.Context(), cl, args[0], a.out, o) })
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "go on until the attempt ends")
	f.BoolVar(&stderr, "stderr", false, "its standard error instead of its standard output")
	f.Int64Var(&o.Offset, "offset", 0, "bytes to skip")
	f.IntVar(&o.Attempt, "attempt", 0, "number of the attempt (default the latest)")
	return c
}

func (a *app) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cancel TASK...", Short: "Cancel tasks", Args: someArgs,
		Long: `Cancel tasks. A running one gets SIGTERM, and SIGKILL after its grace; wait for
its end with 'holdfast wait'.`,
		Example:           "  holdfast cancel t1042 t1043",
		ValidArgsFunction: a.completeTasks,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error {
				return a.each(args, func(id string) error {
					t, err := cl.Cancel(c.Context(), id)
					if err != nil {
						return err
					}
					if a.json {
						return a.emitLine(t)
					}
					a.say("%s  %s", t.ID, t.State)
					return nil
				})
			})
		},
	}
}

// each runs f for every argument, prints the failures of all but the first
// and returns that one.
func (a *app) each(args []string, f func(string) error) error {
	var first error
	for _, arg := range args {
		err := f(arg)
		if err != nil && first != nil {
			a.note("%s", clean(err.Error()))
		} else if err != nil {
			first = err
		}
	}
	return first
}

// completeTasks offers the newest tasks.
func (a *app) completeTasks(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, given, func(ctx context.Context, cl *client.Client) (map[string]string, error) {
		l, err := cl.ListPage(ctx, client.ListFilter{Newest: true, Limit: 50}, client.Stale(0))
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for _, t := range l.Tasks {
			out[t.ID] = strings.TrimSpace(t.State + " " + t.Name)
		}
		return out, nil
	})
}

// completionTime bounds the wait of someone who pressed Tab.
const completionTime = 2 * time.Second

func (a *app) complete(c *cobra.Command, given []string, find func(context.Context, *client.Client) (map[string]string, error)) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	cl, err := a.connect()
	if err != nil {
		return nil, none
	}
	defer cl.Close()
	parent := c.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionTime)
	defer cancel()
	found, err := find(ctx, cl)
	if err != nil {
		return nil, none
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if !slices.Contains(given, id) {
			out = append(out, id+"\t"+clean(found[id]))
		}
	}
	return out, none
}
