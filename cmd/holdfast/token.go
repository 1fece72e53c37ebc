package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
)

var roles = []string{"viewer", "submitter", "operator", "admin", "node"}

func (a *app) tokenCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Create, list and revoke tokens", Aliases: []string{"tokens"},
		Long: `Create, list and revoke tokens. Their roles:
  viewer     reads
  submitter  reads, submits, cancels its own tasks
  operator   also cancels any task, drains nodes, transfers leadership
  admin      everything
  node       one thing only: a machine joins the cluster with it`,
		Args: cobra.ArbitraryArgs, RunE: group,
	}
	c.AddCommand(a.tokenCreateCmd(), a.tokenListCmd(), a.tokenRevokeCmd())
	return c
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var req client.TokenRequest
	var ttl time.Duration
	var out string
	c := &cobra.Command{
		Use: "create", Short: "Create a token and print it, this once", Args: exactArgs(0),
		Long: `Create a token and print it. The cluster keeps a hash: it cannot be shown again.
A join token (--role node) works once and for an hour unless --uses and --ttl say
otherwise, and pins the cluster's CA.`,
		Example: `  holdfast token create --role node --ttl 1h --uses 1
  holdfast token create --role submitter --name ci --token-out ~/.holdfast-ci`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains(roles, req.Role) {
				return usagef("--role %q: want one of %s", req.Role, strings.Join(roles, ", "))
			}
			if ttl < 0 || req.Uses < 0 {
				return usagef("--ttl and --uses must not be negative")
			}
			if req.Uses > 0 && req.Role != "node" {
				return usagef("--uses is for join tokens, --role node")
			}
			req.TTL = client.Duration(ttl)
			return a.with(func(cl *client.Client) error {
				t, err := cl.CreateToken(c.Context(), req)
				if err != nil {
					return err
				}
				if out != "" {
					if err := writePrivate(out, []byte(t.Secret+"\n")); err != nil {
						return fmt.Errorf("%w; token %s was made in vain, revoke it", err, t.ID)
					}
					return a.emit(t.Token, func() { a.say("token %s written to %s", t.ID, out) })
				}
				return a.emit(t, func() { a.showNewToken(t) })
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Role, "role", "", strings.Join(roles, ", "))
	f.StringVar(&req.Name, "name", "", "name, for people")
	f.DurationVar(&ttl, "ttl", 0, "lifetime (default for ever; join tokens 1h)")
	f.IntVar(&req.Uses, "uses", 0, "join tokens: how many nodes may join (default 1)")
	f.StringVar(&out, "token-out", "", "write the token to this file, mode 0600, instead of printing it")
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) showNewToken(t *client.NewToken) {
	// The token alone goes to stdout, so that it can be piped; the rest is
	// for eyes.
	fmt.Fprintln(a.out, t.Secret)
	if !a.errTTY {
		return
	}
	what := fmt.Sprintf("%s token %s", t.Role, t.ID)
	if t.ExpiresAt != nil {
		what += ", until " + stamp(t.ExpiresAt) + " UTC"
	}
	if t.UsesLeft != nil {
		what += fmt.Sprintf(", for %d node(s)", *t.UsesLeft)
	}
	a.note("%s; it is not shown again", what)
}

func (a *app) tokenListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: exactArgs(0), Aliases: []string{"ls"},
		Example: "  holdfast token list",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(cl *client.Client) error {
				l, err := cl.Tokens(c.Context())
				if err != nil {
					return err
				}
				return a.emit(l, func() {
					t := a.table("ID", "ROLE", "NAME", "CREATED", "EXPIRES", "USES LEFT")
					for _, k := range l.Tokens {
						uses := ""
						if k.UsesLeft != nil {
							uses = fmt.Sprint(*k.UsesLeft)
						}
						t.row(k.ID, k.Role, k.Name, stamp(&k.CreatedAt), stamp(k.ExpiresAt), uses)
					}
					t.print(a.out)
				})
			})
		},
	}
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke TOKEN-ID...", Short: "Make tokens worthless at once", Args: someArgs, Aliases: []string{"rm"},
		Example: "  holdfast token revoke k7",
		ValidArgsFunction: func(c *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.complete(c, given, func(ctx context.Context, cl *client.Client) (map[string]string, error) {
				l, err := cl.Tokens(ctx)
				if err != nil {
					return nil, err
				}
				out := map[string]string{}
				for _, t := range l.Tokens {
					out[t.ID] = t.Role + " " + t.Name
				}
				return out, nil
			})
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(func(cl *client.Client) error {
				return a.each(args, func(id string) error {
					if err := cl.RevokeToken(c.Context(), id); err != nil {
						return err
					}
					if a.json {
						return a.emitLine(map[string]string{"revoked": id})
					}
					a.say("%s  revoked", id)
					return nil
				})
			})
		},
	}
}
