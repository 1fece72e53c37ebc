package fault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"holdfast/client"
)

// askTimeout bounds one question to one node. A node that hangs must not keep
// the others' answers from us.
const askTimeout = time.Second

// asker is a node's client over its unix socket, which no network fault cuts.
type asker struct {
	mu sync.Mutex
	cl *client.Client
}

func (a *asker) client(dir string) (*client.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cl == nil {
		cl, err := client.New(client.Config{
			UnixSocket: filepath.Join(dir, "holdfast.sock"), Timeout: 10 * time.Second, Retry: client.Retries{Attempts: 1},
		})
		if err != nil {
			return nil, err
		}
		a.cl = cl
	}
	return a.cl, nil
}

func (a *asker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cl != nil {
		a.cl.Close()
	}
}

// Status asks one node about the cluster.
func (n *Node) Status(ctx context.Context, opts ...client.CallOption) (*client.ClusterStatus, error) {
	cl, err := n.asker.client(n.Dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return cl.Cluster(ctx, append([]client.CallOption{client.Stale(0)}, opts...)...)
}

// View is what the nodes say at one time.
type View struct {
	Leader *Node // of the highest term that any node names; nil if none
	Term   uint64
	Voters []*Node
	Says   map[*Node]*client.ClusterStatus // nodes that answered
}

// Look asks every node at once.
func (l *Lab) Look(ctx context.Context) View {
	nodes := l.Nodes()
	answers := make([]*client.ClusterStatus, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if !n.Alive() {
			continue
		}
		wg.Go(func() { answers[i], _ = n.Status(ctx) }) // no answer is an answer
	}
	wg.Wait()
	v := View{Says: map[*Node]*client.ClusterStatus{}}
	var best *client.ClusterStatus
	for i, s := range answers {
		if s == nil {
			continue
		}
		v.Says[nodes[i]] = s
		if s.Leader != "" && (best == nil || s.Term > best.Term) {
			best = s
		}
	}
	if best == nil {
		return v
	}
	v.Term = best.Term
	roles := map[string]string{}
	for _, m := range best.Members {
		roles[m.ID] = m.Role
	}
	for _, n := range nodes {
		if n.ID == best.Leader {
			v.Leader = n
		}
		if r := roles[n.ID]; r == "voter" || r == "leader" {
			v.Voters = append(v.Voters, n)
		}
	}
	return v
}

// pollEvery is the rhythm of waiting for what nothing announces.
const pollEvery = 10 * time.Millisecond

// until polls a condition; its last error says why it did not hold.
func until(ctx context.Context, what string, holds func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		var v *Violation
		if errors.As(err, &v) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last: %w", what, ctx.Err(), err)
		}
	}
}

// errEnded tells that the process that was waited for is gone.
var errEnded = errors.New("its process ended")

// serves is nil once a node answers, knows a leader, and has caught up with
// what was committed when this was first asked.
func (l *Lab) serves(ctx context.Context, n *Node) error {
	target := uint64(0)
	for _, s := range l.Look(ctx).Says {
		target = max(target, s.CommitIndex)
	}
	var ended error
	err := until(ctx, n.Name+" to serve", func() error {
		if ended = nil; !n.Alive() {
			ended = fmt.Errorf("%s: %w with status %d:\n%s", n.Name, errEnded, n.ExitCode(), lastLines(n.Log(), 3))
			return nil // there is nothing to wait for
		}
		s, err := n.Status(ctx)
		switch {
		case err != nil:
			return err
		case s.Leader == "":
			return errors.New("it knows no leader")
		case s.Index < target:
			return fmt.Errorf("it is at %d of %d", s.Index, target)
		}
		return nil
	})
	return errors.Join(err, ended)
}

// admin calls f with a client of one node after the other until one succeeds.
func (l *Lab) admin(ctx context.Context, what string, f func(context.Context, *client.Client) error) error {
	return until(ctx, what, func() error {
		err := errors.New("no node answers")
		for _, n := range l.Nodes() {
			if _, serr := n.Status(ctx); serr != nil {
				continue // it would only cost time
			}
			var cl *client.Client
			if cl, err = n.asker.client(n.Dir); err != nil {
				continue
			}
			one, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = f(one, cl)
			cancel()
			if err == nil {
				return nil
			}
		}
		return err
	})
}
