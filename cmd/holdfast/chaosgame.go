package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"holdfast/chaos/check"
	"holdfast/chaos/gameday"
	"holdfast/chaos/run"
	"holdfast/client"
)

func (a *app) chaosKeyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "key FILE", Short: "Make a chaos key, and print its public half", Args: exactArgs(1),
		Long: `Make a chaos key in a new file, and print its public half. The key signs orders
to guardians and is good for nothing else. Keep it with the tester alone; the
guardians are given the public half.`,
		Example: "  holdfast chaos key ~/chaos.key",
		RunE: func(_ *cobra.Command, args []string) error {
			public, err := gameday.NewKey(args[0])
			if err != nil {
				return err
			}
			return a.emit(map[string]string{"public": public}, func() { fmt.Fprintln(a.out, public) })
		},
	}
}

func (a *app) chaosGuardCmd() *cobra.Command {
	var data, listen, public string
	c := &cobra.Command{
		Use: "guard", Short: "Stand beside a real node, obey signed orders, and heal", Args: exactArgs(0),
		Long: `Stand beside a node of a real cluster and obey orders that are signed by a chaos
key: stop the node's process for a while, or kill it. Nothing is obeyed while
the cluster could not lose a voter. What was done is undone when its time is
over, when the tester falls silent, on a halt, when another node is lost, and
when this ends or starts again. All of it is in chaos-journal.jsonl in the
node's folder.

Run it as the node's user, and only for as long as the game day lasts.`,
		Example: "  holdfast chaos guard --data /var/lib/holdfast --listen 10.0.0.1:7790 --key chaos-key:...",
		RunE: func(c *cobra.Command, _ []string) error {
			key, err := gameday.ParsePublic(public)
			if err != nil {
				return usagef("%w", err)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen for orders: %w", err)
			}
			g, err := gameday.Open(c.Context(), data, key)
			if err != nil {
				return errors.Join(err, l.Close())
			}
			const headerTimeout = 5 * time.Second
			srv := &http.Server{Handler: g.Handler(), ReadHeaderTimeout: headerTimeout}
			stop := context.AfterFunc(c.Context(), func() { _ = srv.Close() })
			defer stop()
			a.note("the guardian of node %s hears orders at %s", g.Report().Node, l.Addr())
			err = srv.Serve(l)
			if errors.Is(err, http.ErrServerClosed) {
				err = nil
			}
			return errors.Join(err, g.Close())
		},
	}
	f := c.Flags()
	f.StringVar(&data, "data", "/var/lib/holdfast", "the node's folder")
	f.StringVar(&listen, "listen", "127.0.0.1:7790", "host:port for orders")
	f.StringVar(&public, "key", "", "public half of the chaos key")
	_ = c.MarkFlagRequired("key")
	return c
}

func (a *app) chaosGamedayCmd() *cobra.Command {
	var keyFile, on string
	var guards []string
	var length time.Duration
	c := &cobra.Command{
		Use: "gameday pause|kill", Short: "Break one node of a real cluster by a signed order", Args: exactArgs(1),
		Long: `Break one node of a real cluster, by an order to the guardian beside it, and wait
until the guardian has healed it and seen the node serve again. Ctrl-C halts.

Exit codes:
  0    healed, and seen to be
  3    refused, or it could not run
  5    halted; healed, and seen to be
  6    not verified that it was healed`,
		Example: "  holdfast chaos gameday pause --on leader --for 20s --key-file chaos.key --guard 10.0.0.1:7790,10.0.0.2:7790,10.0.0.3:7790",
		RunE: func(c *cobra.Command, args []string) error {
			could := func(err error) error { return &exitError{run.CodeCouldNotRun, err} }
			key, err := gameday.ReadKey(keyFile)
			if err != nil {
				return could(err)
			}
			cl, err := a.connect()
			if err != nil {
				return could(err)
			}
			defer cl.Close()
			rep, err := gameday.Play(c.Context(), gameday.Game{
				Key: key, Guards: guards, Action: gameday.Action(args[0]), On: on, For: length,
				Status: func(ctx context.Context) (*client.ClusterStatus, error) { return cl.Cluster(ctx) },
				Tell:   a.note,
			})
			if err != nil {
				return could(err)
			}
			if err := a.emit(rep, func() { a.printGame(rep) }); err != nil {
				return err
			}
			switch {
			case !rep.Healed:
				return silently(check.CodeNotHealed)
			case c.Context().Err() != nil:
				return silently(run.CodeHalted)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&keyFile, "key-file", "", "file of the chaos key")
	f.StringSliceVar(&guards, "guard", nil, "guardians as host:port, one per node")
	f.StringVar(&on, "on", "follower", "leader, follower, or the ID of a node")
	f.DurationVar(&length, "for", 10*time.Second, "at most so long")
	_ = c.MarkFlagRequired("key-file")
	_ = c.MarkFlagRequired("guard")
	return c
}

func (a *app) printGame(r *gameday.Report) {
	took := time.Duration(r.TookMS) * time.Millisecond
	if r.Healed {
		fmt.Fprintf(a.out, "%s of node %s ended because %s; it serves again after %s\n", r.Action, r.Node, r.Why, took)
		return
	}
	fmt.Fprintf(a.out, "%s of node %s ended because %s; it was not seen to serve within %s: %s\n", r.Action, r.Node, r.Why, took, r.Error)
}
