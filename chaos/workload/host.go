package workload

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/chaos/history"
)

// Look counts what a node of this host holds, as the host sees it: its process
// by PID, the cgroups whose names begin with group below /sys/fs/cgroup, and
// the mounts below its folder. What cannot be seen is -1; goroutines are the
// node's own to tell.
func Look(pid int, group, dir string) history.Counts {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	c := history.Counts{Process: started(proc), Goroutines: -1, Memory: -1, Processes: -1, Cgroups: -1, Mounts: -1}
	c.Descriptors, c.Sockets = descriptors(filepath.Join(proc, "fd"))
	if b, err := os.ReadFile(filepath.Join(proc, "statm")); err == nil {
		if f := strings.Fields(string(b)); len(f) > 1 {
			if pages, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				c.Memory = pages * int64(os.Getpagesize())
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(proc, "mountinfo")); err == nil && dir != "" {
		c.Mounts = bytes.Count(b, []byte(" "+dir+"/"))
	}
	if group != "" {
		c.Cgroups, c.Processes = groups(group)
	}
	return c
}

// started tells one process from a later one with the same PID: field 22 of
// stat is the time of its start. The command's name, field 2, may hold spaces.
func started(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return ""
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return ""
	}
	return filepath.Base(proc) + "-" + f[19]
}

// descriptors counts a process' descriptors, and sockets apart: how many of
// those there are is its clients' doing, too.
func descriptors(dir string) (files, sockets int) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return -1, -1
	}
	for _, e := range list {
		what, err := os.Readlink(filepath.Join(dir, e.Name()))
		switch {
		case err != nil: // closed meanwhile
		case strings.HasPrefix(what, "socket:"):
			sockets++
		default:
			files++
		}
	}
	return files, sockets
}

// groups counts the cgroups of a node and the processes in them. In the first
// version of cgroups each controller has a tree of its own, with the same
// groups in it: the largest counts.
func groups(prefix string) (count, processes int) {
	var roots []string
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, err := filepath.Glob(pattern + prefix + "*")
		if err == nil {
			roots = append(roots, found...)
		}
	}
	for _, root := range roots {
		n, procs := 0, 0
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return fs.SkipDir // a sandbox that ends meanwhile
			case d.IsDir():
				n++
			case d.Name() == "cgroup.procs":
				if b, err := os.ReadFile(path); err == nil {
					procs += bytes.Count(b, []byte("\n"))
				}
			}
			return nil
		})
		count, processes = max(count, n), max(processes, procs)
	}
	return count, processes
}
