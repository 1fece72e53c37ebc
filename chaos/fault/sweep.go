package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/chaos/fault/disk"
	"holdfast/chaos/fault/group"
)

// dirPrefix begins the name of a lab's folder.
const dirPrefix = "hfchaos-"

// lockName is a file in a lab's folder that its tester has locked for as long
// as it lives. Unlike a process ID, a lock is never somebody else's.
const lockName = "tester.lock"

// newFolder makes a lab's folder, with its lock. Its name is short: a unix
// socket's path is bounded.
func newFolder() (dir string, lock *os.File, err error) {
	if dir, err = os.MkdirTemp("", dirPrefix); err != nil {
		return "", nil, err
	}
	lock, err = os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	_, err = lock.WriteString("held\n") // only now may a sweep believe the lock
	return dir, lock, err
}

// abandoned takes the lock of a folder whose tester is gone.
func abandoned(dir string) (*os.File, bool) {
	lock, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return nil, false // not a lab's, or not ready
	}
	held := make([]byte, 1)
	if n, _ := lock.Read(held); n == 1 && syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return lock, true
	}
	_ = lock.Close()
	return nil, false
}

// sweepFor bounds the end of what is swept.
const sweepFor = 20 * time.Second

// Sweep removes what testers that were killed have left: nodes that stand
// still and cannot even die, their cgroups, and their folders.
func Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepFor)
	defer cancel()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	errs := []error{err}
	var gone []string
	for _, dir := range dirs {
		lock, stale := abandoned(dir)
		if !stale {
			continue
		}
		defer lock.Close()
		gone = append(gone, dir)
		errs = append(errs, thawAll(dir))
	}
	errs = append(errs, group.Sweep(ctx))
	for _, dir := range gone {
		errs = append(errs, until(ctx, "the end of the nodes in "+dir, func() error {
			if left := usersOf(dir); len(left) > 0 {
				return fmt.Errorf("%d processes are left", len(left))
			}
			return nil
		}), os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// thawAll thaws the disks of a lab, through the processes that still use them.
func thawAll(dir string) error {
	var errs []error
	mounts, err := filepath.Glob(filepath.Join(dir, "node*.img"))
	errs = append(errs, err)
	for _, pid := range usersOf(dir) {
		for _, image := range mounts {
			// One process after the other may be gone by now.
			if err := disk.ThawOf(pid, strings.TrimSuffix(image, ".img")); err != nil && !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// usersOf are the processes whose command line names a folder.
func usersOf(dir string) []int {
	var out []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte(dir+"/")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}
