package gameday

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"holdfast/client"
)

// Game is one fault on a real cluster.
type Game struct {
	Key    ed25519.PrivateKey
	Guards []string // addresses of the guardians
	Action Action
	// On is "leader", "follower", or the ID of a node.
	On  string
	For time.Duration
	// Status asks the cluster who leads.
	Status func(context.Context) (*client.ClusterStatus, error)
	Tell   func(format string, args ...any)
}

// orderTTL is long enough for slow networks, and short.
const orderTTL = 30 * time.Second

// Play strikes one node and returns its guardian's report once the fault is
// over. When ctx ends, the fault is halted; the report is waited for all the
// same.
func Play(ctx context.Context, g Game) (*Report, error) {
	st, err := g.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the cluster who leads: %w", err)
	}
	addr, node, err := g.aim(ctx, st)
	if err != nil {
		return nil, err
	}
	order := func(ctx context.Context, o Order) (*Report, error) {
		o.Cluster, o.Node = st.ClusterID, node
		s, err := Sign(g.Key, o, time.Now(), orderTTL)
		if err != nil {
			return nil, err
		}
		return send(ctx, addr, s)
	}
	if _, err := order(ctx, Order{Action: g.Action, For: g.For}); err != nil {
		return nil, err
	}
	g.Tell("%s on node %s for at most %s", g.Action, node, g.For)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	late := time.NewTimer(g.For + healWithin + orderTTL)
	defer late.Stop()
	background := context.WithoutCancel(ctx)
	done := ctx.Done()
	for inForce := true; ; {
		select {
		case <-done:
			done = nil
			g.Tell("halt")
			if _, err := order(background, Order{Action: Halt}); err != nil {
				g.Tell("%v", err) // it heals by itself, for want of a word from here
			}
			inForce = false
		case <-tick.C:
			if inForce {
				// Refused once the fault is over, which the report tells.
				_, _ = order(background, Order{Action: Renew})
			}
		case <-late.C:
			return nil, fmt.Errorf("the guardian at %s did not say that the fault is over", addr)
		}
		r, err := ask(background, addr)
		if err == nil && !r.InForce {
			return r, nil
		}
	}
}

// aim finds the guardian of the node that is meant, and wants every guardian to
// be idle.
func (g *Game) aim(ctx context.Context, st *client.ClusterStatus) (addr, node string, err error) {
	var problems []error
	for _, a := range g.Guards {
		r, err := ask(ctx, a)
		switch {
		case err != nil:
			problems = append(problems, err)
			continue
		case r.Cluster != st.ClusterID:
			problems = append(problems, fmt.Errorf("the guardian at %s stands beside a node of another cluster", a))
			continue
		case r.InForce:
			return "", "", fmt.Errorf("%s is in force on node %s: one fault at a time", r.Action, r.Node)
		}
		leads := r.Node == st.Leader
		if g.On == r.Node || g.On == "leader" && leads || g.On == "follower" && !leads {
			addr, node = a, r.Node
		}
	}
	if addr == "" {
		return "", "", errors.Join(append([]error{fmt.Errorf("no guardian stands beside %s", g.On)}, problems...)...)
	}
	return addr, node, nil
}
