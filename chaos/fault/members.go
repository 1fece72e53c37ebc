package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/client"
)

// transfer has the leader hand its office over.
func transfer(s *Strike) actions {
	done := 0
	return actions{
		inject: func(ctx context.Context) error {
			for range s.Step.With.Count("times") {
				before := s.lab.Look(ctx)
				err := s.lab.admin(ctx, "a transfer", func(ctx context.Context, cl *client.Client) error { return cl.Transfer(ctx) })
				if err != nil {
					return err
				}
				if err := until(ctx, "another leader", func() error {
					if v := s.lab.Look(ctx); v.Leader == nil || v.Term == before.Term {
						return fmt.Errorf("term %d", v.Term)
					}
					return nil
				}); err != nil {
					return err
				}
				done++
			}
			return nil
		},
		bit: func(context.Context) (string, error) { return fmt.Sprintf("the office moved %d times", done), nil },
	}
}

// join adds a node and takes it away at the heal.
func join(s *Strike) actions {
	var fresh *Node
	return actions{
		inject: func(ctx context.Context) (err error) {
			fresh, err = s.lab.grow(ctx, nil)
			return err
		},
		bit: func(ctx context.Context) (string, error) {
			return fresh.Name + " joined and serves", s.lab.serves(ctx, fresh)
		},
		heal: func(ctx context.Context) error {
			if fresh == nil {
				return nil
			}
			return s.drop(ctx, fresh)
		},
		healed: func(ctx context.Context) (string, error) { return s.complete(ctx) },
	}
}

// leave has the target go by itself.
func leave(s *Strike) actions {
	n := s.Targets[0]
	return actions{
		owns: true,
		inject: func(ctx context.Context) error {
			if err := s.lab.cluster.Holdfast(ctx, n.Node, nil, "leave", "--yes", "--data", n.Dir); err != nil {
				return err
			}
			select {
			case <-n.Ended():
				return s.lab.retire(n)
			case <-ctx.Done():
				return fmt.Errorf("%s left and did not end: %w", n.Name, ctx.Err())
			}
		},
		bit: func(ctx context.Context) (string, error) {
			return n.Name + " left", s.lab.admin(ctx, "its removal", func(ctx context.Context, cl *client.Client) error {
				if !removed(ctx, cl, n) {
					return errors.New("it is still a member")
				}
				return nil
			})
		},
		heal: func(ctx context.Context) error {
			if !n.gone.Load() { // it did not get that far
				return s.revive(ctx)
			}
			_, err := s.lab.grow(ctx, n)
			return err
		},
		healed: func(ctx context.Context) (string, error) { return s.complete(ctx) },
	}
}

// replace ends the target for good.
func replace(s *Strike) actions {
	n := s.Targets[0]
	return actions{
		owns: true,
		inject: func(context.Context) error {
			return n.Kill()
		},
		bit: func(ctx context.Context) (string, error) {
			return n.Name + " was killed and removed", s.drop(ctx, n)
		},
		heal: func(ctx context.Context) error {
			if !n.gone.Load() {
				return s.substitute(ctx, n)
			}
			_, err := s.lab.grow(ctx, n)
			return err
		},
		healed: func(ctx context.Context) (string, error) { return s.complete(ctx) },
	}
}

// endPatience is how long a node may take to end politely.
const endPatience = 20 * time.Second

// rolling ends and starts every node in turn, the leader last, the next only
// when the one before serves again.
func rolling(s *Strike) actions {
	s.Targets = s.lab.Nodes()
	switch s.Step.Fault {
	case "rolling-upgrade":
		s.become(s.lab.opt.Binary)
	case "rolling-rollback":
		s.become(s.lab.opt.Previous)
	}
	var done []string
	return actions{
		owns: true,
		inject: func(ctx context.Context) error {
			left := slices.Clone(s.Targets)
			for len(left) > 0 {
				next := left[0]
				if leader := s.lab.Look(ctx).Leader; next == leader && len(left) > 1 {
					next = left[1]
				}
				left = slices.DeleteFunc(left, func(n *Node) bool { return n == next })
				if err := s.cycle(ctx, next); err != nil {
					return fmt.Errorf("%s: %w", next.Name, err)
				}
				done = append(done, next.Name)
			}
			return nil
		},
		bit:    func(context.Context) (string, error) { return "in turn: " + strings.Join(done, ", "), nil },
		heal:   s.revive,
		healed: func(ctx context.Context) (string, error) { return s.complete(ctx) },
	}
}

// become has the targets start with another build from now on.
func (s *Strike) become(binary string) {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	for _, n := range s.Targets {
		n.binary = binary
	}
}

// ended waits for the end of a node that was told to end.
func (s *Strike) ended(ctx context.Context, n *Node) error {
	select {
	case <-n.Ended():
		return nil
	case <-time.After(endPatience):
		return fmt.Errorf("it did not end within %s of SIGTERM", endPatience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cycle ends a node politely and starts it.
func (s *Strike) cycle(ctx context.Context, n *Node) error {
	if err := quick(n, syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.ended(ctx, n); err != nil {
		return err
	}
	if err := s.lab.cluster.StartNode(n.Node); err != nil {
		return err
	}
	return s.lab.serves(ctx, n)
}

// twinPatience is how long the second process may take to give up.
const twinPatience = 15 * time.Second

// twin starts a second process on the target's folder. It must refuse, and the
// first must not notice.
func twin(s *Strike) actions {
	n := s.Targets[0]
	pid := n.PID()
	var refusal error
	return actions{
		owns: true,
		inject: func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, twinPatience)
			defer cancel()
			refusal = s.lab.cluster.Holdfast(ctx, n.Node, nil, "start", "--data", n.Dir, "--listen", "127.0.0.1:0")
			if refusal == nil || ctx.Err() != nil {
				return &Violation{fmt.Sprintf("a second process with the identity of %s ran: %v", n.Name, refusal)}
			}
			return nil
		},
		bit: func(context.Context) (string, error) {
			if !n.Alive() || n.PID() != pid {
				return "", &Violation{n.Name + " ended because a second process tried to have its folder"}
			}
			return "the second process said: " + lastLines(refusal.Error(), 1), nil
		},
		heal: s.revive,
	}
}
