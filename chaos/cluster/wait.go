package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast/client"
)

// pollEvery is the rhythm of waiting for a condition that nothing announces.
const pollEvery = 20 * time.Millisecond

// Client makes a client with the admin token that knows the given nodes, all
// running ones by default, in this order. With Options.Sockets it knows the
// first alone.
func (c *Cluster) Client(nodes ...*Node) (*client.Client, error) {
	if len(nodes) == 0 {
		nodes = c.Running()
	}
	if c.opt.Sockets {
		if len(nodes) == 0 {
			return nil, errors.New("no node runs")
		}
		return client.New(client.Config{UnixSocket: filepath.Join(nodes[0].Dir, "holdfast.sock")})
	}
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.Addr
	}
	return client.New(client.Config{Addrs: addrs, Token: c.AdminToken, CAPin: c.CAPin})
}

// Until polls a condition until it holds. The last reason why it did not is
// part of the error.
func Until(ctx context.Context, what string, holds func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		}
	}
}

// Status asks one node, without waiting for a leader.
func (c *Cluster) Status(ctx context.Context, n *Node) (*client.ClusterStatus, error) {
	cl, err := c.Client(n)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return cl.Cluster(ctx, client.Stale(0))
}

// WaitReady waits until a node answers and knows a leader.
func (c *Cluster) WaitReady(ctx context.Context, n *Node) error {
	return Until(ctx, "node "+n.Addr, func(ctx context.Context) error {
		if !n.Alive() {
			return fmt.Errorf("its process ended with status %d:\n%s", n.ExitCode(), n.Log())
		}
		s, err := c.Status(ctx, n)
		if err == nil && s.Leader == "" {
			err = fmt.Errorf("it knows no leader")
		}
		return err
	})
}

// Leader waits until every running node names the same leader, and that one
// runs.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	var leader *Node
	err := Until(ctx, "a leader that every node knows", func(ctx context.Context) error {
		leader = nil
		var id string
		for _, n := range c.Running() {
			s, err := c.Status(ctx, n)
			if err != nil {
				return err
			}
			if s.Leader == "" || id != "" && id != s.Leader {
				return fmt.Errorf("nodes disagree: %q and %q", id, s.Leader)
			}
			id = s.Leader
		}
		for _, n := range c.Running() {
			if n.ID == id {
				leader = n
			}
		}
		if leader == nil {
			return fmt.Errorf("the leader %q does not run", id)
		}
		return nil
	})
	return leader, err
}

// WaitVoters waits until the leader counts this many healthy voters.
func (c *Cluster) WaitVoters(ctx context.Context, want int) error {
	return Until(ctx, fmt.Sprintf("%d healthy voters", want), func(ctx context.Context) error {
		leader, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		s, err := c.Status(ctx, leader)
		if err != nil {
			return err
		}
		voters := 0
		for _, m := range s.Members {
			if m.Healthy && m.Role != "replica" {
				voters++
			}
		}
		if voters != want {
			return fmt.Errorf("%d", voters)
		}
		return nil
	})
}
