package fault

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"holdfast/chaos/fault/clock"
)

// clockJump moves the wall clocks of the targets' processes. Nothing that
// counts durations may notice.
func clockJump(s *Strike) actions {
	by := s.Step.With.Duration("by")
	moved := make([]int, len(s.Targets))
	return actions{
		inject: func(context.Context) error {
			for i, n := range s.Targets {
				pid := n.PID()
				if err := clock.Shift(pid, by); err != nil {
					return err
				}
				moved[i] = pid
			}
			return nil
		},
		bit: func(context.Context) (string, error) {
			for i, n := range s.Targets {
				got, err := clock.Offset(moved[i])
				if err == nil && got != by {
					err = fmt.Errorf("it is off by %s", got)
				}
				if err != nil {
					return "", fmt.Errorf("%s: %w", n.Name, err)
				}
			}
			return fmt.Sprintf("the clocks of %s are off by %s", joined(s.Targets), by), nil
		},
		heal: func(context.Context) error { return restoreClocks(s.Targets, moved) },
	}
}

// restoreClocks restores those processes that still live: a new one has a true
// clock.
func restoreClocks(nodes []*Node, pids []int) error {
	var errs []error
	for i, n := range nodes {
		if pids[i] != 0 && n.Alive() && n.PID() == pids[i] {
			errs = append(errs, clock.Restore(pids[i]))
		}
	}
	return errors.Join(errs...)
}

// clockStrobe moves them to and fro.
func clockStrobe(s *Strike) actions {
	by, every := s.Step.With.Duration("by"), s.Step.With.Duration("every")
	moved := make([]int, len(s.Targets))
	for i, n := range s.Targets {
		moved[i] = n.PID()
	}
	var jumps atomic.Int64
	var stop func() error
	return actions{
		inject: func(ctx context.Context) error {
			sign := time.Duration(1)
			stop = loop(ctx, func(ctx context.Context) error {
				for i, n := range s.Targets {
					if !n.Alive() || n.PID() != moved[i] {
						continue
					}
					if err := clock.Shift(moved[i], sign*by); err != nil && n.Alive() && n.PID() == moved[i] {
						return err
					}
					jumps.Add(1)
				}
				sign = -sign
				return pass(ctx, every)
			})
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			err := until(ctx, "two jumps", func() error {
				if n := jumps.Load(); n < 2*int64(len(s.Targets)) {
					return fmt.Errorf("%d jumps", n)
				}
				return nil
			})
			return fmt.Sprintf("the clocks of %s jump by %s to and fro", joined(s.Targets), by), err
		},
		heal: func(context.Context) error { return errors.Join(stop(), restoreClocks(s.Targets, moved)) },
	}
}
