package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) nodesCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "nodes", Short: "List, drain and remove nodes", Aliases: []string{"node"},
		Example: "  holdfast nodes list\n  holdfast nodes drain NODE",
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(c, args)
			}
			return a.with(func(cl *client.Client) error { return a.listNodes(c.Context(), cl) })
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the nodes", Args: exactArgs(0), Aliases: []string{"ls"},
		Example: "  holdfast nodes list --json | jq -r '.nodes[] | select(.state==\"lost\").id'",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(cl *client.Client) error { return a.listNodes(c.Context(), cl) })
		},
	}
	get := &cobra.Command{
		Use: "get NODE", Short: "Show a node", Args: exactArgs(1), ValidArgsFunction: a.completeNodes,
		Example: "  holdfast nodes get NODE",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error {
				n, err := cl.Node(c.Context(), args[0])
				if err != nil {
					return err
				}
				return a.emit(n, func() { a.showNode(n) })
			})
		},
	}
	c.AddCommand(list, get,
		a.drainCmd("drain", "Start no more attempts on nodes; what runs goes on", true),
		a.drainCmd("undrain", "Let drained nodes take attempts again", false),
		a.removeNodeCmd())
	return c
}

func (a *app) drainCmd(name, short string, drain bool) *cobra.Command {
	return &cobra.Command{
		Use: name + " NODE...", Short: short, Args: someArgs, ValidArgsFunction: a.completeNodes,
		Example: "  holdfast nodes " + name + " NODE",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error {
				return a.each(args, func(id string) error {
					n, err := cl.Drain(c.Context(), id, drain)
					if err != nil {
						return err
					}
					if a.json {
						return a.emitLine(n)
					}
					a.say("%s  %s  %d running", n.ID, n.State, n.Running)
					return nil
				})
			})
		},
	}
}

func (a *app) removeNodeCmd() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "remove NODE...", Short: "Take nodes out of the cluster for good", Args: someArgs, Aliases: []string{"rm"},
		Long: `Take nodes out of the cluster for good: their certificates are revoked and what
they run is lost to them. A node that is alive leaves better by itself, with
'holdfast leave'. On a terminal this asks first; elsewhere it needs --yes.`,
		Example:           "  holdfast nodes remove --yes NODE",
		ValidArgsFunction: a.completeNodes,
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Remove %d node(s) for good?", len(args))); err != nil {
				return err
			}
			return a.with(func(cl *client.Client) error {
				return a.each(args, func(id string) error {
					if err := cl.RemoveNode(c.Context(), id); err != nil {
						return err
					}
					if a.json {
						return a.emitLine(map[string]string{"removed": id})
					}
					a.say("%s  removed", id)
					return nil
				})
			})
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// confirm asks on a terminal. Anything but yes is no.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.inTTY || !a.errTTY {
		return usagef("this cannot be undone: give --yes")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	var answer string
	if _, err := fmt.Fscanln(a.in, &answer); err != nil || (answer != "y" && answer != "yes") {
		return &exitError{exitFailure, fmt.Errorf("nothing was done")}
	}
	return nil
}

func (a *app) listNodes(ctx context.Context, cl *client.Client) error {
	l, err := cl.Nodes(ctx)
	if err != nil {
		return err
	}
	return a.emit(l, func() {
		t := a.table("ID", "NAME", "STATE", "ROLE", "ADDRESS", "CPU", "MEMORY", "RUNNING", "WEAKER", "LABELS")
		for _, n := range l.Nodes {
			t.row(n.ID, n.Name, n.State, n.Role, n.Addr,
				fmt.Sprintf("%d/%dm", n.UsedCPUMillis, n.CPUMillis),
				size(n.UsedMemoryBytes)+"/"+size(n.MemoryBytes), fmt.Sprint(n.Running), strings.Join(n.Weaker, ","), labels(n.Labels))
		}
		t.print(a.out)
	})
}

func (a *app) showNode(n *client.Node) {
	a.fields("ID", n.ID, "Name", n.Name, "State", n.State, "Role", n.Role, "Address", n.Addr, "Version", n.Version,
		"CPU", fmt.Sprintf("%d of %d millis", n.UsedCPUMillis, n.CPUMillis),
		"Memory", size(n.UsedMemoryBytes)+" of "+size(n.MemoryBytes),
		"Running", fmt.Sprint(n.Running), "Labels", labels(n.Labels), "Abilities", strings.Join(n.Abilities, ", "),
		"Weaker", strings.Join(n.Weaker, ", "), "Gossip", n.Gossip)
}

func (a *app) completeNodes(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(c, given, func(ctx context.Context, cl *client.Client) (map[string]string, error) {
		l, err := cl.Nodes(ctx, client.Stale(0))
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for _, n := range l.Nodes {
			out[n.ID] = n.Name + " " + n.State
		}
		return out, nil
	})
}
