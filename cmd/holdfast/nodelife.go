package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"holdfast/node"
)

func (a *app) startCmd() *cobra.Command {
	return a.nodeCmd(&cobra.Command{
		Use: "start", Short: "Run the node of a data folder",
		Long: `Run the node of a data folder, in the foreground, until SIGTERM or Ctrl-C. It
then drains: leadership moves first, no new attempts start, running ones get
their time. A second signal ends it at once.

Flags override HOLDFAST_ variables, these the configuration file, and that the
defaults; 'holdfast config validate' prints what holds.`,
		Example: "  holdfast start\n  holdfast start --data /srv/holdfast --label zone=a --label disk=ssd",
	}, func(c *cobra.Command, cfg node.Config) error {
		a.secondSignalEnds(c)
		return a.node.Start(c.Context(), cfg, func(r ReadyReport) {
			if a.json {
				_ = a.emitLine(r) // a closed stdout must not stop a node
				return
			}
			a.note("node %s serves at %s", r.NodeID, r.Addr)
		})
	})
}

// secondSignalEnds gives Ctrl-C back its default action after the first one,
// so that a drain can be cut short.
func (a *app) secondSignalEnds(c *cobra.Command) {
	go func() {
		<-c.Context().Done() // ends with the invocation
		if a.interrupt != nil {
			a.interrupt()
		}
	}()
}

func (a *app) leaveCmd() *cobra.Command {
	var yes bool
	c := a.nodeCmd(&cobra.Command{
		Use: "leave", Short: "Take this machine's node out of its cluster",
		Long: `Take the node of the data folder out of its cluster: it drains, gives up its
vote and its certificate is revoked. The folder is worth nothing afterwards; to
come back, join as a new node.`,
		Example: "  holdfast leave --yes",
	}, func(c *cobra.Command, cfg node.Config) error {
		if err := a.confirm(yes, "Take this node out of its cluster for good?"); err != nil {
			return err
		}
		if err := a.node.Leave(c.Context(), cfg); err != nil {
			return err
		}
		return a.emit(map[string]string{"left": cfg.Data}, func() { a.say("the node of %s has left its cluster", cfg.Data) })
	})
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) devCmd() *cobra.Command {
	var temporary bool
	c := a.nodeCmd(&cobra.Command{
		Use: "dev", Short: "Run a one-node cluster for yourself",
		Long: `Run a one-node cluster for one person on one machine, in the foreground, until
Ctrl-C. It listens on loopback alone, on any free port, and keeps its data under
~/.local/share/holdfast/dev unless --data or --temporary says otherwise.

Commands without any setting find it by its socket:

  holdfast run -- echo hello`,
		Example: "  holdfast dev\n  holdfast dev --temporary",
	}, func(c *cobra.Command, cfg node.Config) error {
		cfg, clean, err := a.devConfig(c, cfg, temporary)
		if err != nil {
			return err
		}
		defer clean()
		a.secondSignalEnds(c)
		return a.node.Dev(c.Context(), cfg, devSocket(a.env)[0], func(r ReadyReport) {
			if a.json {
				_ = a.emitLine(r) // a closed stdout must not stop a node
				return
			}
			a.say("holdfast is ready at %s; its data is in %s. In another terminal:\n\n  holdfast run -- echo hello\n\nCtrl-C ends it.", r.Addr, cfg.Data)
		})
	})
	c.Flags().BoolVar(&temporary, "temporary", false, "keep the data in a temporary folder and remove it at the end")
	return c
}

// devConfig takes the defaults of dev where nothing else was said.
func (a *app) devConfig(c *cobra.Command, cfg node.Config, temporary bool) (node.Config, func(), error) {
	clean := func() {}
	env, err := a.envLookup()
	if err != nil {
		return cfg, clean, err
	}
	said := func(flag, key string) bool {
		_, ok := env(key)
		return ok || c.Flags().Changed(flag)
	}
	if len(devSocket(a.env)) == 0 {
		return cfg, clean, usagef("HOME is not set: there is no place for this cluster's socket")
	}
	d := node.Defaults()
	if cfg.Listen == d.Listen && !said("listen", "HOLDFAST_LISTEN") {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Log.Level == d.Log.Level && !said("log-level", "HOLDFAST_LOG_LEVEL") {
		cfg.Log.Level = "error"
	}
	switch {
	case temporary && said("data", "HOLDFAST_DATA"):
		return cfg, clean, usagef("--temporary and --data exclude each other")
	case temporary:
		if cfg.Data, err = os.MkdirTemp("", "holdfast-dev-"); err != nil {
			return cfg, clean, fmt.Errorf("make a temporary data folder: %w", err)
		}
		clean = func() { os.RemoveAll(cfg.Data) }
	case !said("data", "HOLDFAST_DATA") && cfg.Data == d.Data:
		if cfg.Data = devData(a.env); cfg.Data == "" {
			cfg.Data = filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-dev-%d", os.Getuid()))
		}
	}
	return cfg, clean, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
