package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"holdfast/chaos/demo"
)

func (a *app) demoCmd() *cobra.Command {
	var source string
	var verbose bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See a cluster keep its promises while its leader is killed",
		Long: `Start a three-node cluster of this binary on loopback, run one sandboxed task
per package of the Go standard library found on this machine, kill the leader
with -9 meanwhile and start it again, check every result against a direct
computation, and remove everything.

Exits with 0 only if every result is right, nothing was lost, nothing took
effect twice, and nothing is left behind.`,
		Example: "  holdfast demo\n  holdfast demo --source /usr/lib/go/src",
		Args:    exactArgs(0),
		RunE: func(c *cobra.Command, _ []string) error {
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this binary: %w", err)
			}
			if source == "" {
				if source, err = demo.FindSource(); err != nil {
					return err
				}
			}
			opt := demo.Options{Binary: binary, Source: source, Out: a.err, Terminal: a.errTTY}
			if verbose {
				opt.Log = a.err
			}
			v, err := demo.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			for _, w := range v.Wrong {
				fmt.Fprintln(a.err, w)
			}
			fmt.Fprintln(a.out, v)
			return v.Err()
		},
	}
	f := c.Flags()
	f.StringVar(&source, "source", "", "folder of packages (default src of go env GOROOT)")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the nodes' logs")
	return c
}
