package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/chaos/fault/calls"
)

// diskFull leaves no free block. The node must give up what it cannot do and
// end, or go on where it need not write.
func diskFull(s *Strike) actions {
	n := s.Targets[0]
	return actions{
		owns:   true,
		inject: func(context.Context) error { return n.disk.Fill() },
		bit: func(context.Context) (string, error) {
			room, err := n.disk.Room()
			if err == nil && room > 0 && n.Alive() {
				err = fmt.Errorf("%d bytes are free", room)
			}
			return "no block is free on " + n.Name, err
		},
		heal: func(ctx context.Context) error { return errors.Join(n.disk.Free(), s.revive(ctx)) },
	}
}

// supervised is a fault by rules on the targets' calls. Its proof are the calls
// that were struck.
func supervised(s *Strike, rule calls.Rule) actions {
	active := make([]*calls.Active, len(s.Targets))
	return actions{
		owns: true,
		inject: func(context.Context) error {
			for i, n := range s.Targets {
				active[i] = n.calls.Set(rule)
			}
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			total := 0
			for i, n := range s.Targets {
				if err := until(ctx, n.Name+" to use its disk", func() error {
					if active[i].Struck() == 0 {
						return fmt.Errorf("none of %d calls was struck", n.calls.Seen())
					}
					return nil
				}); err != nil {
					return "", err
				}
				total += active[i].Struck()
			}
			return fmt.Sprintf("%d calls struck so far", total), nil
		},
		heal: func(ctx context.Context) error {
			for _, a := range active {
				if a != nil {
					a.Remove()
				}
			}
			return s.revive(ctx)
		},
	}
}

// logFiles are those that a node must not lose.
func logFiles(c calls.Call) bool { return strings.HasPrefix(filepath.Base(c.Path), "log.") }

// diskError fails writes or syncs of the log. After a failed one nothing on
// the disk may be trusted: the node must end.
func diskError(s *Strike) actions {
	write := s.Step.Fault == "disk-write-error"
	r := calls.Rule{Errno: syscall.EIO, Match: func(c calls.Call) bool { return c.Write == write && logFiles(c) }}
	if !write {
		r.Nth = s.Step.With.Count("nth")
	}
	return supervised(s, r)
}

func diskSlow(s *Strike) actions {
	return supervised(s, calls.Rule{Delay: s.Step.With.Duration("by"), Match: func(c calls.Call) bool { return !c.Write }})
}

// diskHang has every write wait. The process cannot even end before the heal.
func diskHang(s *Strike) actions {
	n := s.Targets[0]
	return actions{
		owns:   true,
		inject: func(context.Context) error { return n.disk.Freeze() },
		bit: func(context.Context) (string, error) {
			back := make(chan error, 1)
			// It waits for the heal, as the node's own writes do.
			go func() {
				path := filepath.Join(n.Dir, "chaos-hang")
				err := os.WriteFile(path, nil, 0o600)
				back <- errors.Join(err, os.Remove(path))
			}()
			const enough = 100 * time.Millisecond
			select {
			case err := <-back:
				return "", fmt.Errorf("a write came back: %w", err)
			case <-time.After(enough):
				return "a write on " + n.Name + " did not come back", nil
			}
		},
		heal: func(ctx context.Context) error { return errors.Join(n.disk.Thaw(), s.revive(ctx)) },
	}
}

// power ends the disks first, so that nothing is synced after it, and then the
// processes.
func power(s *Strike) actions {
	return actions{
		owns: true,
		inject: func(context.Context) error {
			return errors.Join(s.each(func(n *Node) error { return n.disk.CutPower() }), s.each(func(n *Node) error { return n.Kill() }))
		},
		bit: func(context.Context) (string, error) {
			for _, n := range s.Targets {
				if n.Alive() || !n.disk.Dead() {
					return "", fmt.Errorf("%s still has power", n.Name)
				}
			}
			return joined(s.Targets) + " lost power", nil
		},
		heal: func(ctx context.Context) error {
			return errors.Join(s.each(func(n *Node) error { return n.disk.Repower(ctx) }), s.revive(ctx))
		},
	}
}
