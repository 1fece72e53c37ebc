package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) configCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Keep profiles of clusters, check a node's configuration",
		Long: `Keep profiles of clusters in ~/.config/holdfast/config.yaml (or under
$XDG_CONFIG_HOME), and check a node's configuration file.

` + connectionHelp,
		Args: cobra.ArbitraryArgs, RunE: group,
	}
	c.AddCommand(a.configListCmd(), a.configUseCmd(), a.configSetCmd(), a.configRemoveCmd(), a.configShowCmd(), a.configValidateCmd())
	return c
}

func (a *app) configListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the profiles", Args: exactArgs(0), Aliases: []string{"ls"},
		Example: "  holdfast config list",
		RunE: func(*cobra.Command, []string) error {
			p, err := a.loadProfiles()
			if err != nil {
				return err
			}
			return a.emit(p, func() {
				t := a.table("PROFILE", "CURRENT", "ADDRESSES", "TOKEN", "CA")
				for _, name := range slices.Sorted(maps.Keys(p.Profiles)) {
					current := "no"
					if name == p.Current {
						current = "yes"
					}
					c := p.Profiles[name]
					t.row(name, current, where(c), tokenFrom(c), anchor(c))
				}
				t.print(a.out)
			})
		},
	}
}

func where(c connection) string {
	if c.Socket != "" {
		return c.Socket
	}
	return strings.Join(c.Addrs, ",")
}

// tokenFrom says where the token is, never what it is.
func tokenFrom(c connection) string {
	switch {
	case c.TokenFile != "":
		return c.TokenFile
	case c.Token != "":
		return "set"
	}
	return ""
}

func anchor(c connection) string {
	if c.CAPin != "" {
		return c.CAPin
	}
	return c.CACert
}

func (a *app) configUseCmd() *cobra.Command {
	return &cobra.Command{
		Use: "use PROFILE", Short: "Make a profile the current one", Args: exactArgs(1),
		Example:           "  holdfast config use prod",
		ValidArgsFunction: a.completeProfiles,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editProfiles(args[0], func(p *profiles) error {
				if _, ok := p.Profiles[args[0]]; !ok {
					return usagef("there is no profile %q; holdfast config list prints them", args[0])
				}
				p.Current = args[0]
				return nil
			})
		},
	}
}

func (a *app) editProfiles(name string, edit func(*profiles) error) error {
	p, err := a.loadProfiles()
	if err != nil {
		return err
	}
	if err := edit(p); err != nil {
		return err
	}
	if err := a.saveProfiles(p); err != nil {
		return err
	}
	return a.emit(p, func() { a.say("profile %s, in %s", name, a.profilesPath()) })
}

func (a *app) configSetCmd() *cobra.Command {
	var tokenStdin bool
	c := &cobra.Command{
		Use: "set PROFILE", Short: "Make or change a profile from the connection flags", Args: exactArgs(1),
		Long: `Make or change a profile from --addr, --socket, --token-file, --ca-pin and
--ca-cert. The first profile becomes the current one. A token itself comes from
standard input (--token-stdin), never from the command line, where other users
of the machine could read it.`,
		Example: `  holdfast config set prod --addr a:7700,b:7700 --ca-pin sha256:... --token-file ~/.prod-token
  holdfast config set test --addr t:7700 --ca-cert ca.crt --token-stdin < token`,
		RunE: func(_ *cobra.Command, args []string) error {
			for _, s := range a.conn.Addrs {
				if _, err := client.ParseAddr(s); err != nil {
					return err
				}
			}
			if tokenStdin {
				var err error
				if a.conn.Token, err = readLine(a.in); err != nil {
					return err
				}
			}
			if a.conn.CAPin != "" {
				if _, err := client.TLSConfig(a.conn.CAPin, nil); err != nil {
					return err
				}
			}
			return a.editProfiles(args[0], func(p *profiles) error {
				c := a.conn.over(p.Profiles[args[0]])
				if !c.names() {
					return usagef("a profile needs --addr or --socket")
				}
				p.Profiles[args[0]] = c
				if p.Current == "" {
					p.Current = args[0]
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&tokenStdin, "token-stdin", false, "read the token from standard input and keep it in the profile")
	return c
}

func (a *app) configRemoveCmd() *cobra.Command {
	return &cobra.Command{
		Use: "remove PROFILE", Short: "Forget a profile", Args: exactArgs(1), Aliases: []string{"rm"},
		Example:           "  holdfast config remove test",
		ValidArgsFunction: a.completeProfiles,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.editProfiles(args[0], func(p *profiles) error {
				if _, ok := p.Profiles[args[0]]; !ok {
					return usagef("there is no profile %q", args[0])
				}
				delete(p.Profiles, args[0])
				if p.Current == args[0] {
					p.Current = ""
				}
				return nil
			})
		},
	}
}

func (a *app) configShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show where commands connect now, and why", Args: exactArgs(0),
		Example: "  holdfast config show --profile prod",
		RunE: func(*cobra.Command, []string) error {
			r, err := a.resolve()
			if err != nil {
				return err
			}
			v := struct {
				connection
				Source   string `json:"source"`
				HasToken bool   `json:"has_token"`
			}{r.connection, r.Source, r.Token != "" || r.TokenFile != ""}
			return a.emit(v, func() {
				a.fields("Source", r.Source, "Addresses", strings.Join(r.Addrs, ", "), "Socket", r.Socket, "Token", tokenFrom(r.connection), "CA", anchor(r.connection))
			})
		},
	}
}

func (a *app) configValidateCmd() *cobra.Command {
	var f nodeFlags
	c := &cobra.Command{
		Use: "validate", Short: "Check a node's configuration and print what holds", Args: exactArgs(0),
		Long: `Check a node's configuration as start would read it - flags before HOLDFAST_
variables before the file before the defaults - and print what holds.`,
		Example: "  holdfast config validate --config /etc/holdfast/config.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.nodeConfig(c.Flags(), &f)
			if err != nil {
				return err
			}
			text, err := configText(cfg)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(text.json, nil)
			}
			if !a.quiet {
				fmt.Fprint(a.out, text.yaml)
			}
			return nil
		},
	}
	f.add(c.Flags())
	return c
}
