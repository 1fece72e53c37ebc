package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/chaos/fault/group"
)

// kill is kill -9. Its proof is the kernel's own word on how the process ended.
func kill(s *Strike) actions {
	return actions{
		owns:   true,
		inject: func(context.Context) error { return s.each(func(n *Node) error { return n.Kill() }) },
		bit: func(context.Context) (string, error) {
			for _, n := range s.Targets {
				if n.Alive() || n.ExitCode() != -1 {
					return "", fmt.Errorf("%s was not ended by a signal", n.Name)
				}
			}
			return strings.Join(s.Names(), ", ") + " ended by SIGKILL", nil
		},
		heal: s.revive,
	}
}

// pause is SIGSTOP. The node's sandboxes go on, and must end with its lease.
func pause(s *Strike) actions {
	return actions{
		owns:   true,
		inject: func(context.Context) error { return s.each(func(n *Node) error { return n.Pause() }) },
		bit: func(ctx context.Context) (string, error) {
			for _, n := range s.Targets {
				if err := until(ctx, n.Name+" to stand still", func() error { return stopped(n.PID()) }); err != nil {
					return "", err
				}
			}
			return "every thread of " + strings.Join(s.Names(), ", ") + " stands still", nil
		},
		heal: func(ctx context.Context) error {
			err := s.each(func(n *Node) error { return quick(n, syscall.SIGCONT) })
			// One that lost its lease or its disk may have ended meanwhile.
			return errors.Join(err, s.revive(ctx))
		},
	}
}

// stopped is nil if all threads of a process are stopped.
func stopped(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		return fmt.Errorf("process %d has no threads: %w", pid, err)
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if !strings.HasPrefix(rest, "T") {
			return fmt.Errorf("%s is in state %.1s", path, rest)
		}
	}
	return nil
}

// grouped is a fault by a cgroup per target.
func grouped(s *Strike, controller string, set, bit func(*Node, *group.Group) error, unset func(*group.Group) error) actions {
	groups := make([]*group.Group, len(s.Targets))
	return actions{
		inject: func(context.Context) error {
			for i, n := range s.Targets {
				g, err := group.New(controller, n.PID(), fmt.Sprintf("%s-%d", n.Name, time.Now().UnixNano()))
				if err != nil {
					return err
				}
				groups[i] = g
				if err := set(n, g); err != nil {
					return fmt.Errorf("%s: %w", n.Name, err)
				}
			}
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			for i, n := range s.Targets {
				if err := until(ctx, n.Name+" to feel it", func() error { return bit(n, groups[i]) }); err != nil {
					return "", err
				}
			}
			return "the cgroup of " + strings.Join(s.Names(), ", ") + " says so", nil
		},
		heal: func(ctx context.Context) error {
			var errs []error
			for _, g := range groups {
				if g == nil {
					continue
				}
				if unset != nil {
					errs = append(errs, unset(g))
				}
				errs = append(errs, g.Close(ctx))
			}
			return errors.Join(append(errs, s.revive(ctx))...)
		},
	}
}

// freeze stands the node and all its tasks still together, as a paused virtual
// machine does. Beyond the lease no software on the node can keep a task from
// an effect after the thaw, so freezes are shorter; see docs/chaos.md.
func freeze(s *Strike) actions {
	a := grouped(s, "freezer",
		func(n *Node, g *group.Group) error {
			return errors.Join(g.Add(descendants(n.PID())), g.Freeze())
		},
		func(_ *Node, g *group.Group) error {
			frozen, err := g.Frozen()
			if err == nil && !frozen {
				err = errors.New("not frozen yet")
			}
			return err
		},
		(*group.Group).Thaw)
	a.owns = true
	return a
}

// descendants are the processes below one.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(f[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		children[parent] = append(children[parent], child)
	}
	var out []int
	for todo := children[pid]; len(todo) > 0; {
		next := todo[0]
		todo = append(todo[1:], children[next]...)
		out = append(out, next)
	}
	return out
}

// oom lowers the memory limit below what the node needs for its next step.
func oom(s *Strike) actions {
	a := grouped(s, "memory",
		func(_ *Node, g *group.Group) error { return g.LimitMemory(256 << 10) },
		func(n *Node, g *group.Group) error {
			if kills, err := g.OOMKills(); err != nil || kills == 0 {
				return fmt.Errorf("%d killed: %w", kills, err)
			}
			if n.Alive() {
				return errors.New("it still lives")
			}
			return nil
		}, nil)
	a.owns = true
	return a
}

func starveCPU(s *Strike) actions {
	share := s.Step.With.Ratio("share")
	return grouped(s, "cpu",
		func(_ *Node, g *group.Group) error { return g.LimitCPU(share) },
		func(_ *Node, g *group.Group) error {
			held, err := g.Throttled()
			if err == nil && held < 2 {
				err = fmt.Errorf("held back %d times", held)
			}
			return err
		}, nil)
}

// starveDescriptors sets the limit of descriptors to what the node has open, so
// that the next connection or file has none.
func starveDescriptors(s *Strike) actions {
	n := s.Targets[0]
	var before unix.Rlimit
	var pid int
	limit := func(new, old *unix.Rlimit) error {
		return unix.Prlimit(pid, unix.RLIMIT_NOFILE, new, old)
	}
	return actions{
		inject: func(context.Context) error {
			pid = n.PID()
			if err := limit(nil, &before); err != nil {
				return err
			}
			return limit(&unix.Rlimit{Cur: 3, Max: before.Max}, nil)
		},
		bit: func(ctx context.Context) (string, error) {
			// A client's connection is refused a descriptor: no answer comes.
			return "a new client got no answer", until(ctx, "no descriptor", func() error {
				var fresh asker
				defer fresh.close()
				cl, err := fresh.client(n.Dir)
				if err != nil {
					return err
				}
				one, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
				if _, err := cl.Cluster(one); err == nil {
					return errors.New("a new client was answered")
				}
				return nil
			})
		},
		heal: func(ctx context.Context) error {
			if n.Alive() && n.PID() == pid {
				if err := limit(&before, nil); err != nil && !errors.Is(err, unix.ESRCH) {
					return err
				}
			}
			return s.revive(ctx)
		},
	}
}

// restartLoop kills and starts again, as a crashing program under a service
// manager does.
func restartLoop(s *Strike) actions {
	n, every := s.Targets[0], s.Step.With.Duration("every")
	var kills atomic.Int64
	var stop func() error
	return actions{
		owns: true,
		inject: func(ctx context.Context) error {
			stop = loop(ctx, func(ctx context.Context) error {
				if err := n.Kill(); err != nil {
					return err
				}
				kills.Add(1)
				if err := s.lab.cluster.StartNode(n.Node); err != nil {
					return err
				}
				return pass(ctx, every)
			})
			return nil
		},
		bit: func(ctx context.Context) (string, error) {
			err := until(ctx, "two kills", func() error {
				if kills.Load() < 2 {
					return fmt.Errorf("%d kills", kills.Load())
				}
				return nil
			})
			return fmt.Sprintf("%s was killed over and over", n.Name), err
		},
		heal: func(ctx context.Context) error { return errors.Join(stop(), s.revive(ctx)) },
	}
}

// pass lets time go by.
func pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
