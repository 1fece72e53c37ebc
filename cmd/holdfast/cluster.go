package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) clusterCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "cluster", Short: "Show the cluster, move its leadership",
		Args: cobra.ArbitraryArgs, RunE: group,
	}
	var watch time.Duration
	status := &cobra.Command{
		Use: "status", Short: "Show who leads, who votes and how much waits", Args: exactArgs(0),
		Example: "  holdfast cluster status\n  holdfast cluster status --watch 1s",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(cl *client.Client) error {
				return a.repeat(c.Context(), watch, func() error {
					s, err := cl.Cluster(c.Context())
					if err != nil {
						return err
					}
					return a.emit(s, func() { a.showCluster(s) })
				})
			})
		},
	}
	status.Flags().DurationVar(&watch, "watch", 0, "print again at that interval")
	transfer := &cobra.Command{
		Use: "transfer", Short: "Make the leader hand its office to another voter", Args: exactArgs(0),
		Long:    "Make the leader hand its office to another voter, for instance before work on\nits machine. Running tasks are not disturbed.",
		Example: "  holdfast cluster transfer",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(func(cl *client.Client) error {
				if err := cl.Transfer(c.Context()); err != nil {
					return err
				}
				s, err := cl.Cluster(c.Context())
				if err != nil {
					return fmt.Errorf("the leadership was transferred, but: %w", err)
				}
				return a.emit(s, func() {
					if s.Leader == "" { // the next one is still to be heard of
						a.say("the leader has handed over")
						return
					}
					a.say("%s leads, at %s", s.Leader, s.LeaderAddr)
				})
			})
		},
	}
	c.AddCommand(status, transfer)
	return c
}

func (a *app) showCluster(s *client.ClusterStatus) {
	leader := "none"
	if s.Leader != "" {
		leader = s.Leader + " at " + s.LeaderAddr
	}
	a.fields("Cluster", s.ClusterID, "Leader", leader, "Term", fmt.Sprint(s.Term),
		"Index", fmt.Sprintf("%d applied, %d committed, on %s", s.Index, s.CommitIndex, s.AnsweredBy),
		"Tasks", fmt.Sprintf("%d queued, %d running, %d ended", s.Queued, s.Running, s.Finished),
		"Tolerates", fmt.Sprintf("the failure of %d voter(s)", s.Tolerates),
		"Features", fmt.Sprintf("level %d", s.FeatureLevel), "CA pin", s.CAPin, "State hash", s.StateHash)
	if len(s.Members) == 0 {
		return
	}
	fmt.Fprintln(a.out)
	t := a.table("MEMBER", "NAME", "ADDRESS", "ROLE", "HEALTHY")
	for _, m := range s.Members {
		healthy := "yes"
		if !m.Healthy {
			healthy = "no"
		}
		t.row(m.ID, m.Name, m.Addr, m.Role, healthy)
	}
	t.print(a.out)
}
