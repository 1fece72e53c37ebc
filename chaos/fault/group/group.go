package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mount is where cgroups are.
const mount = "/sys/fs/cgroup"

// Group is one group with one process.
type Group struct {
	dir    string
	origin string // the group that the process came from
	v2     bool
}

// New moves a process into a new group of a controller: "freezer", "cpu" or
// "memory".
func New(controller string, pid int, name string) (*Group, error) {
	g, err := locate(controller, pid)
	if err != nil {
		return nil, fmt.Errorf("make a cgroup for process %d: %w", pid, err)
	}
	g.dir = filepath.Join(g.dir, fmt.Sprintf("%s%d-%s", prefix, os.Getpid(), name))
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup for process %d: %w", pid, err)
	}
	if err := g.write("cgroup.procs", strconv.Itoa(pid)); err != nil {
		return nil, errors.Join(fmt.Errorf("move process %d: %w", pid, err), os.Remove(g.dir))
	}
	return g, nil
}

// locate finds the controller's hierarchy and the process's place in it. The
// new group goes below its root, because a parent's limits are not ours.
func locate(controller string, pid int) (*Group, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			if c == controller {
				root := filepath.Join(mount, controller)
				return &Group{dir: root, origin: filepath.Join(root, f[2])}, nil
			}
		}
		if f[0] == "0" && hasV2(controller) {
			return &Group{dir: mount, origin: filepath.Join(mount, f[2]), v2: true}, nil
		}
	}
	return nil, fmt.Errorf("this host has no cgroup controller %s; try: cat /proc/cgroups", controller)
}

func hasV2(controller string) bool {
	b, err := os.ReadFile(filepath.Join(mount, "cgroup.subtree_control"))
	if err != nil {
		return false
	}
	if controller == "freezer" {
		return true // a part of the core
	}
	for _, c := range strings.Fields(string(b)) {
		if c == controller {
			return true
		}
	}
	return false
}

// Available is an error where the controller cannot be used.
func Available(controller string) error {
	_, err := locate(controller, os.Getpid())
	return err
}

func (g *Group) write(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0o600)
}

func (g *Group) read(file string) (string, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	return strings.TrimSpace(string(b)), err
}

// pick writes to the file that the version has.
func (g *Group) pick(v1, v1value, v2, v2value string) error {
	if g.v2 {
		return g.write(v2, v2value)
	}
	return g.write(v1, v1value)
}

// Freeze has the process stand still.
func (g *Group) Freeze() error { return g.pick("freezer.state", "FROZEN", "cgroup.freeze", "1") }

// Thaw lets it go on.
func (g *Group) Thaw() error { return g.pick("freezer.state", "THAWED", "cgroup.freeze", "0") }

// Frozen reports whether all of it stands still.
func (g *Group) Frozen() (bool, error) {
	if g.v2 {
		s, err := g.read("cgroup.events")
		return strings.Contains(s, "frozen 1"), err
	}
	s, err := g.read("freezer.state")
	return s == "FROZEN", err
}

// period of the CPU bandwidth control: short, so that a small share is not one
// long pause.
const period = 20 * time.Millisecond

// LimitCPU allows a share of one CPU.
func (g *Group) LimitCPU(share float64) error {
	us := period.Microseconds()
	quota := max(int64(share*float64(us)), 1000) // the kernel's least
	if g.v2 {
		return g.write("cpu.max", fmt.Sprintf("%d %d", quota, us))
	}
	return errors.Join(g.write("cpu.cfs_period_us", strconv.FormatInt(us, 10)), g.write("cpu.cfs_quota_us", strconv.FormatInt(quota, 10)))
}

// Throttled is how often the process was held back for want of CPU.
func (g *Group) Throttled() (int64, error) {
	s, err := g.read("cpu.stat")
	if err != nil {
		return 0, err
	}
	return field(s, "nr_throttled")
}

// LimitMemory allows so many bytes; a process that uses more is killed.
func (g *Group) LimitMemory(bytes int64) error {
	n := strconv.FormatInt(bytes, 10)
	return g.pick("memory.limit_in_bytes", n, "memory.max", n)
}

// OOMKills is how many processes the kernel killed for the limit.
func (g *Group) OOMKills() (int64, error) {
	file := "memory.oom_control"
	if g.v2 {
		file = "memory.events"
	}
	s, err := g.read(file)
	if err != nil {
		return 0, err
	}
	return field(s, "oom_kill")
}

func field(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no field %s", name)
}

// Close puts what lives in the group back and removes it.
func (g *Group) Close(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := g.read("cgroup.procs")
		for _, pid := range strings.Fields(s) {
			// One that has just died cannot be moved, and need not.
			_ = os.WriteFile(filepath.Join(g.origin, "cgroup.procs"), []byte(pid), 0o600)
		}
		if err == nil {
			err = os.Remove(g.dir)
		}
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: %w; last: %w", g.dir, ctx.Err(), err)
		}
	}
}

// Add moves further processes in. One that has just ended need not be moved.
func (g *Group) Add(pids []int) error {
	for _, pid := range pids {
		if err := g.write("cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("move process %d to %s: %w", pid, g.dir, err)
		}
	}
	return nil
}
