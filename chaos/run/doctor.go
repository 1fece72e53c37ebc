package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/chaos/fault/group"
	"holdfast/chaos/scenario"
)

// Ability is a need of faults, and whether this host has it.
type Ability struct {
	Need    scenario.Need `json:"need"`
	Faults  []string      `json:"faults"`
	Problem string        `json:"problem,omitempty"` // empty: it has
}

// needNothing stands for the faults that need nothing beyond root.
const needNothing scenario.Need = "process"

// Examine says which faults this host can do. It changes nothing.
func Examine(ctx context.Context) []Ability {
	tests := []struct {
		need scenario.Need
		try  func(context.Context) error
	}{
		{needNothing, func(context.Context) error { return nil }},
		{scenario.NeedSwitch, tryTun},
		{scenario.NeedDisk, tryDisk},
		{scenario.NeedCalls, tryCalls},
		{scenario.NeedClock, tryClock},
		{scenario.NeedCgroup, tryCgroups},
		{scenario.NeedBuild, func(context.Context) error { return errors.New("give 'chaos run' an earlier build with --previous") }},
	}
	var out []Ability
	for _, t := range tests {
		a := Ability{Need: t.need}
		for _, f := range scenario.Faults {
			if slices.Contains(f.Tiers, scenario.Live) && (slices.Contains(f.Needs, t.need) || t.need == needNothing && len(f.Needs) == 0) {
				a.Faults = append(a.Faults, f.Name)
			}
		}
		err := t.try(ctx)
		if os.Geteuid() != 0 {
			err = errors.New("run as root")
		}
		if err != nil {
			a.Problem = err.Error()
		}
		out = append(out, a)
	}
	return out
}

func tryTun(context.Context) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w; load the module tun", err)
	}
	return unix.Close(fd)
}

func tryDisk(context.Context) error {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fmt.Errorf("%w; load the module loop", err)
	}
	for _, program := range []string{"mkfs.ext4", "losetup", "mount"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if _, err := os.Stat("/usr/sbin/" + program); err != nil {
			return fmt.Errorf("no %s on this host; install e2fsprogs and mount", program)
		}
	}
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(b), "ext4") {
		err = errors.New("the kernel has no ext4")
	}
	return err
}

func tryCalls(context.Context) error {
	b, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err == nil && !slices.Contains(strings.Fields(string(b)), "user_notif") {
		err = errors.New("this kernel's seccomp cannot notify; Linux 5.5 or later")
	}
	return err
}

func tryClock(context.Context) error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("the clock of a process can be moved on amd64 alone, not on %s", runtime.GOARCH)
	}
	b, err := os.ReadFile("/proc/self/maps")
	if err == nil && !strings.Contains(string(b), "[vdso]") {
		err = errors.New("processes have no vDSO here")
	}
	return err
}

func tryCgroups(context.Context) error {
	var errs []error
	for _, controller := range []string{"freezer", "cpu", "memory"} {
		errs = append(errs, group.Available(controller))
	}
	return errors.Join(errs...)
}
