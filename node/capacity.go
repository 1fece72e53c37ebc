package node

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/node/worker"
)

// capacity is what this node offers to tasks: what the configuration says, or
// what this process may use itself.
func (n *Node) capacity() worker.Capacity {
	c := worker.Capacity{CPUMillis: n.cfg.CPUMillis, MemoryBytes: n.cfg.MemoryBytes}
	if c.CPUMillis == 0 {
		c.CPUMillis = int64(runtime.NumCPU()) * 1000 // respects the process's CPU affinity
	}
	if c.MemoryBytes == 0 {
		total, err := hostMemory()
		if err != nil {
			n.log.Warn("the host's memory is not known: this node takes tasks for 1 GiB; set memory_bytes", "error", err)
			total = 1 << 30
		}
		// An eighth stays with the node itself and the host's page cache.
		c.MemoryBytes = total - total/8
	}
	c.CPUMillis, c.MemoryBytes = max(0, c.CPUMillis), max(0, c.MemoryBytes)
	return c
}

// hostMemory is the host's memory in bytes, or the limit of this process's own
// cgroup where that is lower (a container).
func hostMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	total, err := memTotal(text)
	if err != nil {
		return 0, err
	}
	for _, p := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && limit > 0 {
			total = min(total, limit)
		}
	}
	return total, nil
}

func memTotal(meminfo []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no MemTotal in /proc/meminfo")
}

// bootClock is a clock that is never set back and goes on while the host
// sleeps, when Go's own monotonic clock stands still: a worker that slept past
// its lease must notice. Its times compare with each other alone.
func bootClock() time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Now() // no such clock on this kernel: the next best
	}
	return time.Unix(ts.Sec, ts.Nsec)
}
