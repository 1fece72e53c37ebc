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

// prefix begins the name of every group that is made here; the tester's process
// ID follows.
const prefix = "holdfast-chaos-"

// Sweep removes the groups of testers that are gone, killed in the middle of a
// fault. What they froze goes on, and hears then that it was to die with them.
func Sweep(ctx context.Context) error {
	var errs []error
	for _, pattern := range []string{filepath.Join(mount, prefix+"*"), filepath.Join(mount, "*", prefix+"*")} {
		dirs, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, dir := range dirs {
			owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
			pid, err := strconv.Atoi(owner)
			if err != nil || syscall.Kill(pid, 0) == nil {
				continue // not ours, or at work
			}
			errs = append(errs, sweep(ctx, dir))
		}
	}
	return errors.Join(errs...)
}

func sweep(ctx context.Context, dir string) error {
	for file, value := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o600); err != nil {
				return fmt.Errorf("thaw %s: %w", dir, err)
			}
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("remove %s: %w; last: %w", dir, ctx.Err(), err)
		}
	}
}
