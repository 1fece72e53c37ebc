package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of the kernel's CPU times: 100 a second on every Linux that
// Go runs on.
const tick = 10 * time.Millisecond

// Usage is what processes have used.
type Usage struct {
	Processes   int
	CPU         time.Duration // own
	ChildrenCPU time.Duration // of children that have ended
	RSSBytes    int64         // resident, shared pages counted in each
	PSSBytes    int64         // resident, shared pages divided
}

// Tree reads the use of a process and of all its descendants.
func Tree(pid int) (Usage, error) {
	children, err := family()
	if err != nil {
		return Usage{}, err
	}
	var u Usage
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		one, err := read(queue[0])
		if gone(err) && queue[0] != pid {
			continue
		}
		if err != nil {
			return u, fmt.Errorf("read the use of process %d: %w", queue[0], err)
		}
		u.Processes++
		u.CPU += one.CPU
		u.ChildrenCPU += one.ChildrenCPU
		u.RSSBytes += one.RSSBytes
		u.PSSBytes += one.PSSBytes
		queue = append(queue, children[queue[0]]...)
	}
	return u, nil
}

// gone tells a process that ended while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// family maps every process to its children.
func family() (map[int][]int, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, dir := range dirs {
		fields, err := stat(dir)
		if err != nil {
			continue // ended meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	return children, nil
}

// stat gives the fields of /proc/PID/stat from the state on, see proc(5).
func stat(dir string) ([]string, error) {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, err
	}
	// The name is in parentheses and may hold anything, parentheses included.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 15 {
		return nil, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	return fields, nil
}

func read(pid int) (Usage, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	f, err := stat(dir)
	if err != nil {
		return Usage{}, err
	}
	times := [4]time.Duration{} // utime, stime, cutime, cstime
	for i := range times {
		n, err := strconv.ParseInt(f[11+i], 10, 64)
		if err != nil {
			return Usage{}, err
		}
		times[i] = time.Duration(n) * tick
	}
	u := Usage{CPU: times[0] + times[1], ChildrenCPU: times[2] + times[3]}
	b, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return u, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "Rss:":
			u.RSSBytes = kib << 10
		case "Pss:":
			u.PSSBytes = kib << 10
		}
	}
	return u, nil
}

// Host is the CPU time that all processes and the kernel have used since the
// machine's start, over all cores.
func Host() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var total time.Duration
	for i, v := range f[1:8] { // user, nice, system, idle, iowait, irq, softirq
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			total += time.Duration(n) * tick
		}
	}
	return total, nil
}
