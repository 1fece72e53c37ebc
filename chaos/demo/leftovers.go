package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/chaos/cluster"
)

// stopPatience is how long the nodes may take to end by themselves; all tasks
// have ended by then.
const stopPatience = 15 * time.Second

// stop ends the nodes as an operator would, and by force what does not end.
func stop(c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience) // the caller's may be over
	defer cancel()
	var errs []error
	for _, n := range c.Running() {
		errs = append(errs, n.Signal(syscall.SIGTERM))
	}
	for _, n := range c.Running() {
		select {
		case <-n.Ended():
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("%s did not end within %v of SIGTERM:\n%s", name(n), stopPatience, n.Log()))
		}
	}
	return errors.Join(append(errs, c.Close())...)
}

// inventory is what was on this machine before the demo.
type inventory struct{ cgroups map[string]bool }

func takeInventory() (*inventory, error) {
	groups, err := cgroups()
	return &inventory{groups}, err
}

// leftovers names everything of the demo that is still there: processes that
// use its folder, mounts, cgroups, the folder itself.
func (v *inventory) leftovers(work string) error {
	var errs []error
	if _, err := os.Lstat(work); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("folder %s is still there", work))
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		errs = append(errs, err)
	} else if strings.Contains(string(mounts), work) {
		errs = append(errs, fmt.Errorf("a mount below %s is still there", work))
	}
	procs, err := processes(work)
	errs = append(errs, err)
	for _, p := range procs {
		errs = append(errs, fmt.Errorf("process %s is still there", p))
	}
	groups, err := cgroups()
	errs = append(errs, err)
	for g := range groups {
		if !v.cgroups[g] {
			errs = append(errs, fmt.Errorf("cgroup %s is still there", g))
		}
	}
	return errors.Join(errs...)
}

// cgroups lists the control groups whose names begin like ours.
func cgroups() (map[string]bool, error) {
	out := map[string]bool{}
	err := filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil // groups of others come and go
			}
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), "holdfast") {
			out[p] = true
			return filepath.SkipDir
		}
		return nil
	})
	return out, err
}

// processes lists those whose command line names the folder.
func processes(work string) ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), work) {
			out = append(out, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out, nil
}
