package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one tree in which every attempt gets a directory. Controllers
// that share a mount share it.
type hierarchy struct {
	version     int
	dir         string // our parent group
	base, leaf  string
	controllers []string
	mount       string
}

// rare is a hierarchy that only groups with a limit of IO enter: each one more
// costs a grace period of the kernel, some ms on an idle machine.
func (h hierarchy) rare() bool {
	return len(h.controllers) == 1 && h.controllers[0] == IO
}

// Manager makes and removes groups below one parent per hierarchy.
type Manager struct {
	hier []hierarchy
	lock int // flocked descriptor of the first parent; -1 when closed
}

// Open makes the parent groups "holdfast-<name>" and locks them. The error is
// *ErrMissing, ErrBusy or what the file system said.
func Open(loc map[string]Location, name string) (*Manager, error) {
	m := &Manager{lock: -1}
	for _, c := range []string{Memory, CPU, PIDs, CPUAcct, IO} {
		l, ok := loc[c]
		if !ok {
			if slices.Contains(Required, c) {
				return nil, &ErrMissing{Controller: c}
			}
			continue
		}
		dir := filepath.Join(l.Base, "holdfast-"+name)
		if i := slices.IndexFunc(m.hier, func(h hierarchy) bool { return h.dir == dir }); i >= 0 {
			m.hier[i].controllers = append(m.hier[i].controllers, c)
			continue
		}
		m.hier = append(m.hier, hierarchy{version: l.Version, dir: dir, base: l.Base, leaf: l.Leaf, controllers: []string{c}, mount: l.Mount})
	}
	var err error
	for range openTries {
		err = m.tryOpen()
		if err == nil {
			return m, nil
		}
		if !errors.Is(err, ErrBusy) && !errors.Is(err, errSwept) {
			return nil, err
		}
		time.Sleep(openPause)
	}
	if errors.Is(err, errSwept) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s", ErrBusy, m.hier[0].dir)
}

const (
	// A parent is in use for a moment while another node looks whether it is an
	// orphan. 100 tries are 1 s, against nodes that do nothing but look.
	openTries = 100
	openPause = 10 * time.Millisecond
)

var errSwept = errors.New("another node removed the parent group while it was made")

// tryOpen makes the parents and locks the first.
func (m *Manager) tryOpen() error {
	for _, h := range m.hier {
		err := h.open()
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) { // gone before, or after, its file was opened
			return fmt.Errorf("%w: %w", errSwept, err)
		}
		if err != nil {
			return err
		}
	}
	fd, err := lockDir(m.hier[0].dir)
	if err != nil {
		return err
	}
	// An orphan's sweeper may have been between our mkdir and our lock.
	var locked, now unix.Stat_t
	err = unix.Fstat(fd, &locked)
	for i, h := range m.hier {
		if err == nil {
			err = unix.Stat(h.dir, &now)
		}
		if err == nil && i == 0 && now.Ino != locked.Ino {
			err = unix.ENOENT
		}
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) {
			return errSwept
		}
		return fmt.Errorf("look at cgroup %s: %w", m.hier[0].dir, err)
	}
	m.lock = fd
	return nil
}

// lockDir locks a parent group; ErrBusy when another process holds it.
func lockDir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, errSwept
	}
	if err != nil {
		return -1, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return -1, fmt.Errorf("%w: %s", ErrBusy, dir)
		}
		return -1, fmt.Errorf("lock cgroup %s: %w", dir, err)
	}
	return fd, nil
}

func (h hierarchy) open() error {
	if h.version == 2 {
		if h.leaf != "" {
			if err := enterLeaf(h.base, h.leaf); err != nil {
				return err
			}
		}
		if err := enable(h.base, h.controllers); err != nil {
			return err
		}
	}
	if err := os.Mkdir(h.dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make cgroup: %w", err)
	}
	if h.version == 2 {
		return enable(h.dir, h.controllers)
	}
	if slices.Contains(h.controllers, Memory) {
		// The kernel patches its code when the first group of the machine gets this
		// limit and when the last one goes: let that not be a task's.
		if err := write(filepath.Join(h.dir, tcpLimit), "-1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("count socket buffers: %w", err)
		}
	}
	return nil
}

// enterLeaf moves this process out of base: a v2 group with processes cannot
// give controllers to its children.
func enterLeaf(base, leaf string) error {
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the node's own cgroup: %w", err)
	}
	if err := write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("move the node into its own cgroup: %w", err)
	}
	rest, err := os.ReadFile(filepath.Join(base, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("look for other processes in the delegated cgroup: %w", err)
	}
	if pids := strings.Fields(string(rest)); len(pids) > 0 {
		return fmt.Errorf("the delegated cgroup %s also holds processes %v: run the node in a unit of its own", base, pids)
	}
	return nil
}

// enable gives the controllers to dir's children.
func enable(dir string, controllers []string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	have, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read enabled controllers: %w", err)
	}
	var want []string
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			want = append(want, "+"+c)
		}
	}
	if len(want) == 0 {
		return nil
	}
	if err := write(file, strings.Join(want, " ")); err != nil {
		return fmt.Errorf("enable controllers %v for children of %s: %w", want, dir, err)
	}
	return nil
}

// Stale kills whatever lives in groups below the parent, removes them and says
// how many attempts they belonged to. Call it before the first Create.
func (m *Manager) Stale() (int, error) {
	ids := map[string]bool{}
	var errs []error
	for _, h := range m.hier {
		entries, err := os.ReadDir(h.dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("list stale cgroups: %w", err))
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				ids[e.Name()] = true
				errs = append(errs, removeDir(filepath.Join(h.dir, e.Name()), true))
			}
		}
	}
	return len(ids), errors.Join(errs...)
}

// SweepOrphans removes the empty groups of nodes that died and never came back,
// and says how many nodes those were. A parent without a lock has no owner; its
// processes died with their launcher, and a group that still has some stays.
func (m *Manager) SweepOrphans() int {
	names := map[string]bool{}
	for _, h := range m.hier {
		found, _ := filepath.Glob(filepath.Join(h.base, "holdfast-*"))
		for _, dir := range found {
			names[filepath.Base(dir)] = true
		}
	}
	delete(names, filepath.Base(m.hier[0].dir))
	swept := 0
	for name := range names {
		if m.sweep(name) {
			swept++
		}
	}
	return swept
}

func (m *Manager) sweep(name string) bool {
	// The first hierarchy's directory is made first and carries the lock: where
	// it is missing, nobody is using or making the others.
	fd, err := lockDir(filepath.Join(m.hier[0].base, name))
	if err == nil {
		defer unix.Close(fd)
	} else if !errors.Is(err, errSwept) {
		return false
	}
	gone := true
	for _, h := range m.hier {
		parent := filepath.Join(h.base, name)
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			if e.IsDir() {
				_ = unix.Rmdir(filepath.Join(parent, e.Name()))
			}
		}
		if err := unix.Rmdir(parent); err != nil && !errors.Is(err, unix.ENOENT) {
			gone = false
		}
	}
	return gone
}

// Close unlocks the parents and removes them if they are empty.
func (m *Manager) Close() error {
	if m.lock < 0 {
		return nil
	}
	var errs []error
	for _, h := range m.hier {
		errs = append(errs, removeDir(h.dir, false))
	}
	unix.Close(m.lock)
	m.lock = -1
	return errors.Join(errs...)
}

// removeTries bounds the wait for a group to empty: the kernel detaches dying
// processes a moment after their death is reported. 400 tries are about 2 s.
const removeTries = 400

// removeDir removes one group, on request killing what is in it.
func removeDir(dir string, kill bool) error {
	wait := 50 * time.Microsecond
	var err error
	for range removeTries {
		err = unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		if kill {
			killAll(dir)
		}
		time.Sleep(wait)
		wait = min(wait*2, 5*time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

func killAll(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for _, f := range strings.Fields(string(b)) {
		// 0 stands for a process outside our pid namespace: kill(0) would hit us.
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// write is os.WriteFile without O_CREATE and O_TRUNC, in one write call.
func write(file, s string) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(s)); err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(s) + " to", Path: file, Err: err}
	}
	return nil
}
