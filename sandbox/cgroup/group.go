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

// cpuPeriod is the window of the CPU quota, in µs: the kernel's default. A
// shorter one throttles more evenly and costs more timer interrupts.
const cpuPeriod = 100_000

// Limits bounds a group. A field that is zero is left unlimited.
type Limits struct {
	MemoryBytes int64 // memory and swap together
	CPUMillis   int64 // thousandths of one CPU
	PIDs        int64
	IO          IOLimits
}

// Usage is read from a group's counters. A counter that the machine does not
// keep is zero.
type Usage struct {
	CPU             time.Duration
	MemoryPeakBytes int64
	OOMKills        int64
}

// Group is one attempt's directories, one per hierarchy.
type Group struct {
	dirs    []groupDir
	limits  Limits     // in force
	missing [][]string // what they lack, by directory and at last for IO
}

// NotEnforced names what Limit was to bound and the kernel has no file for.
func (g *Group) NotEnforced() []string { return slices.Concat(g.missing...) }

type groupDir struct {
	version     int
	path        string
	controllers []string
	mount       string
	counters    map[string]int // descriptors, by file
}

func (d groupDir) has(c string) bool { return slices.Contains(d.controllers, c) }

// Create makes a group without limits; on error nothing is left behind. A group
// that is to get limits of IO must be made for it.
func (m *Manager) Create(id string, io bool) (*Group, error) {
	g := &Group{}
	for _, h := range m.hier {
		if h.rare() && !io {
			continue
		}
		dir := groupDir{version: h.version, path: filepath.Join(h.dir, id), controllers: h.controllers, mount: h.mount}
		if err := os.Mkdir(dir.path, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), g.Remove())
		}
		dir.openCounters()
		g.dirs = append(g.dirs, dir)
	}
	return g, nil
}

// Limit sets the limits, and writes only what differs from those in force: each
// write costs some 10 µs, and a warm start waits for them. A limit that is set
// cannot be lifted.
func (g *Group) Limit(lim Limits) error {
	if g.missing == nil {
		g.missing = make([][]string, len(g.dirs)+1)
	}
	for i, d := range g.dirs {
		var err error
		if d.concerned(g.limits, lim) {
			if g.missing[i], err = d.limit(g.limits, lim); err != nil {
				return err
			}
		}
	}
	if lim.IO != g.limits.IO {
		g.missing[len(g.dirs)] = g.limitIO(lim.IO)
	}
	g.limits = lim
	return nil
}

// concerned says whether a limit of one of its controllers changes.
func (d groupDir) concerned(was, lim Limits) bool {
	return d.has(Memory) && was.MemoryBytes != lim.MemoryBytes ||
		d.has(CPU) && was.CPUMillis != lim.CPUMillis || d.has(PIDs) && was.PIDs != lim.PIDs
}

// limit returns what could not be limited.
func (d groupDir) limit(was, lim Limits) (missing []string, err error) {
	type set struct {
		file, value string
		optional    bool
		bounds      string // what is not enforced without the file; "" where others enforce it
	}
	var sets []set
	num := func(n int64) string { return strconv.FormatInt(n, 10) }
	if d.has(Memory) && lim.MemoryBytes > 0 {
		if d.version == 2 {
			// oom.group: half of a task is of no use to anyone.
			sets = append(sets, set{"memory.max", num(lim.MemoryBytes), false, ""},
				set{"memory.swap.max", "0", true, Swap}, set{"memory.oom.group", "1", true, ""})
		} else {
			// memsw must not be below memory: it goes second on the way down, also
			// from unlimited, and first on the way up. It is missing where swap
			// accounting is off; then swappiness 0 keeps the group out of swap.
			sets = append(sets, set{"memory.limit_in_bytes", num(lim.MemoryBytes), false, ""},
				set{"memory.memsw.limit_in_bytes", num(lim.MemoryBytes), true, Swap}, set{"memory.swappiness", "0", true, ""},
				set{tcpLimit, num(max(lim.MemoryBytes/socketPart, minSocketBytes)), true, SocketMemory})
			if was.MemoryBytes > 0 && lim.MemoryBytes > was.MemoryBytes {
				sets[0], sets[1] = sets[1], sets[0]
			}
		}
	}
	if d.has(CPU) && lim.CPUMillis > 0 {
		quota := num(lim.CPUMillis * cpuPeriod / 1000)
		if d.version == 2 {
			sets = append(sets, set{"cpu.max", quota + " " + num(cpuPeriod), false, ""}, set{"cpu.weight", num(weight(shares(lim.CPUMillis))), true, CPUWeight})
		} else {
			sets = append(sets, set{"cpu.cfs_period_us", num(cpuPeriod), false, ""}, set{"cpu.cfs_quota_us", quota, false, ""},
				set{"cpu.shares", num(shares(lim.CPUMillis)), true, CPUWeight})
		}
	}
	if d.has(PIDs) && lim.PIDs > 0 {
		sets = append(sets, set{"pids.max", num(lim.PIDs), false, ""})
	}
	for _, s := range sets {
		err := write(filepath.Join(d.path, s.file), s.value)
		if err != nil && (!s.optional || !errors.Is(err, fs.ErrNotExist)) {
			return missing, fmt.Errorf("set limit: %w", err)
		}
		if err != nil && s.bounds != "" && (s.bounds != Swap || swaps()) {
			missing = append(missing, s.bounds)
		}
	}
	return missing, nil
}

// What a kernel may be unable to enforce.
const (
	Swap         = "swap"
	CPUWeight    = "cpu_weight"
	SocketMemory = "socket_memory"
)

// On v1 the buffers of TCP and UDP are in no counter of memory but in one of
// their own, and that one counts only in groups that have a limit: without it a
// task fills the machine's memory with data that it sends to itself. Together
// they are a quarter of the memory more.
const (
	tcpLimit       = "memory.kmem.tcp.limit_in_bytes"
	socketPart     = 4
	minSocketBytes = 1 << 20 // a few connections
)

// swaps says whether this machine swaps at all: without, there is nothing to
// limit. Only asked where the limit is missing. The first line is a heading.
var swaps = func() bool {
	b, err := os.ReadFile("/proc/swaps")
	return err != nil || strings.Count(string(b), "\n") > 1
}

// shares is a group's part of the CPUs where more is asked for than there is:
// as much as its quota, of 1024 per CPU, within v1's bounds.
func shares(millis int64) int64 { return min(max(2, millis*1024/1000), 262_144) }

// weight maps v1's shares to v2's weight, 1 to 10,000, as systemd and runc do.
func weight(shares int64) int64 { return 1 + (shares-2)*9999/262_142 }

// OpenProcs opens the files through which a process enters the group by writing
// "0". The kernel checks the rights of who opened them, not of who writes.
func (g *Group) OpenProcs() ([]*os.File, error) {
	var files []*os.File
	for _, d := range g.dirs {
		f, err := os.OpenFile(filepath.Join(d.path, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			for _, o := range files {
				o.Close()
			}
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// CPU reads the CPU time used so far, and says whether the machine counts it.
func (g *Group) CPU() (time.Duration, bool) {
	for _, d := range g.dirs {
		if d.version == 2 {
			if us, ok := d.field("cpu.stat", "usage_usec"); ok {
				return time.Duration(us) * time.Microsecond, true
			}
		}
		if d.has(CPUAcct) {
			if ns, ok := d.number("cpuacct.usage"); ok {
				return time.Duration(ns), true
			}
		}
	}
	return 0, false
}

// Usage reads the counters.
func (g *Group) Usage() Usage {
	var u Usage
	u.CPU, _ = g.CPU()
	for _, d := range g.dirs {
		if d.has(Memory) {
			d.memory(&u)
		}
	}
	return u
}

func (d groupDir) memory(u *Usage) {
	if d.version == 2 {
		u.MemoryPeakBytes, _ = d.number("memory.peak")
		u.OOMKills, _ = d.field("memory.events", "oom_kill")
		return
	}
	u.MemoryPeakBytes, _ = d.number("memory.max_usage_in_bytes")
	u.OOMKills, _ = d.field("memory.oom_control", "oom_kill")
}

// KillAll kills every process in the group.
func (g *Group) KillAll() {
	for _, d := range g.dirs {
		if d.version == 2 && unix.Access(filepath.Join(d.path, "cgroup.kill"), unix.W_OK) == nil {
			_ = write(filepath.Join(d.path, "cgroup.kill"), "1")
			continue
		}
		killAll(d.path)
	}
}

// Remove removes the directories, waiting a moment for dying processes.
func (g *Group) Remove() error {
	var errs []error
	for _, d := range g.dirs {
		d.closeCounters()
		errs = append(errs, removeDir(d.path, true))
	}
	return errors.Join(errs...)
}
