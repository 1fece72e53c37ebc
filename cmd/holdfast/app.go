package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"holdfast/client"
)

// app is one invocation: its streams, environment and global flags. Commands
// write to out and err alone, never to os.Stdout, so that tests see all.
type app struct {
	in                    io.Reader
	out, err              io.Writer
	inTTY, outTTY, errTTY bool
	env                   func(string) (string, bool)
	node                  NodeCommands
	interrupt             func() // gives Ctrl-C back its default action

	// Global flags.
	conn        connection // as given by flags
	profileName string
	json, quiet bool
	noColor     bool

	dotenv func() (map[string]string, error) // reads .env once
}

// main runs args and returns the exit code.
func (a *app) main(ctx context.Context, args []string) int {
	a.dotenv = sync.OnceValues(a.readDotenv)
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	var silent *exitError
	if errors.As(err, &silent) && silent.err == nil {
		return code
	}
	fmt.Fprintf(a.err, "%s %s\n", a.paint(a.errTTY, red, "holdfast:"), clean(err.Error()))
	if h := a.hint(err); h != "" {
		fmt.Fprintf(a.err, "%s\n", h)
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "Run untrusted work on machines that you own",
		Long: `holdfast runs untrusted work on machines that you own: every node runs this
binary, any node takes a request, and no node's death loses an accepted task.

Try it on this machine:

  holdfast dev                      start a one-node cluster, in one terminal
  holdfast run -- echo hello        run a task on it, in another

` + connectionHelp + "\n" + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w\nSee: %s --help", err, c.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringSliceVar(&a.conn.Addrs, "addr", nil, "nodes as host:port; several for failover (HOLDFAST_ADDR)")
	f.StringVar(&a.conn.TokenFile, "token-file", "", "file with the API token (HOLDFAST_TOKEN_FILE, or HOLDFAST_TOKEN)")
	f.StringVar(&a.conn.CAPin, "ca-pin", "", "pin of the cluster's CA, sha256:... (HOLDFAST_CA_PIN)")
	f.StringVar(&a.conn.CACert, "ca-cert", "", "file with the cluster CA's certificate in PEM (HOLDFAST_CA_CERT)")
	f.StringVar(&a.conn.Socket, "socket", "", "unix socket of a local node (HOLDFAST_SOCKET)")
	f.StringVar(&a.profileName, "profile", "", "profile of the config file (HOLDFAST_PROFILE)")
	f.BoolVar(&a.json, "json", false, "print JSON: one document, or one per line for streams")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print nothing but what was asked for")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (NO_COLOR)")
	_ = root.RegisterFlagCompletionFunc("profile", a.completeProfiles)
	root.AddGroup(
		&cobra.Group{ID: "work", Title: "Submit and follow work:"},
		&cobra.Group{ID: "node", Title: "Be a node:"},
		&cobra.Group{ID: "operate", Title: "Operate a cluster:"},
		&cobra.Group{ID: "self", Title: "This program:"},
	)
	add := func(groupID string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = groupID
			root.AddCommand(c)
		}
	}
	add("work", a.runCmd(), a.submitCmd(), a.getCmd(), a.listCmd(), a.waitCmd(), a.logsCmd(), a.cancelCmd())
	add("node", a.devCmd(), a.initCmd(), a.joinCmd(), a.startCmd(), a.leaveCmd(), a.doctorCmd())
	add("operate", a.nodesCmd(), a.clusterCmd(), a.tokenCmd(), a.snapshotCmd(), a.chaosCmd())
	add("self", a.configCmd(), a.demoCmd(), a.versionCmd())
	root.SetHelpCommandGroupID("self")
	root.SetCompletionCommandGroupID("self")
	return root
}

// group is the RunE of a command that only has subcommands.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	msg := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		msg += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s\nSee: %s --help", msg, c.CommandPath())
}

// exactArgs is cobra.ExactArgs with the words of the command's usage line.
func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("want %d argument(s), got %d\nUsage: %s", n, len(args), c.UseLine())
		}
		return nil
	}
}

func someArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("want at least one argument\nUsage: %s", c.UseLine())
	}
	return nil
}

// connect makes the client of this invocation's cluster.
func (a *app) connect() (*client.Client, error) {
	cfg, err := a.clientConfig()
	if err != nil {
		return nil, err
	}
	return client.New(cfg)
}

// with runs f with a client.
func (a *app) with(f func(*client.Client) error) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return f(c)
}

// emit prints v as JSON with --json, otherwise by human.
func (a *app) emit(v any, human func()) error {
	if !a.json {
		human()
		return nil
	}
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// emitLine prints v as one line of JSON.
func (a *app) emitLine(v any) error { return json.NewEncoder(a.out).Encode(v) }

// say prints a line for people: not with --json, not with --quiet.
func (a *app) say(format string, args ...any) {
	if !a.json && !a.quiet {
		fmt.Fprintf(a.out, format+"\n", args...)
	}
}

// note prints a line to stderr unless --quiet.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, "holdfast: "+format+"\n", args...)
	}
}
