package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// IOLimits bounds what a group moves to and from disks. Zero is no bound.
type IOLimits struct {
	Weight            int64 // 1 to 1000, the kernel's default being 100
	ReadBPS, WriteBPS int64 // bytes per second, of each disk
}

// What may not be enforced of it.
const (
	IOWeight = "io_weight"
	IORead   = "io_read_bps"
	IOWrite  = "io_write_bps"
	// On v1 the write-back of the page cache belongs to no group: only direct and
	// synchronous writes are held up.
	IOBuffered = "io_write_bps of buffered writes"
)

// sysBlock is a variable for tests.
var sysBlock = "/sys/block"

// disks lists the machine's disks, as major:minor. What is only a window to
// another (loop) or to memory (ram, zram) would count twice or for nothing.
func disks() (devices []string, bfq bool) {
	entries, _ := os.ReadDir(sysBlock)
	for _, e := range entries {
		if slices.ContainsFunc([]string{"loop", "ram", "zram"}, func(p string) bool { return strings.HasPrefix(e.Name(), p) }) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(sysBlock, e.Name(), "dev"))
		if err != nil {
			continue
		}
		devices = append(devices, strings.TrimSpace(string(b)))
		s, _ := os.ReadFile(filepath.Join(sysBlock, e.Name(), "queue", "scheduler"))
		bfq = bfq || strings.Contains(string(s), "[bfq]")
	}
	return devices, bfq
}

// limitIO sets what it can and returns the rest: no machine has all of it, and
// a task that asks for less IO is no danger to isolation.
func (g *Group) limitIO(lim IOLimits) (missing []string) {
	if lim == (IOLimits{}) {
		return nil
	}
	devices, bfq := disks()
	i := slices.IndexFunc(g.dirs, func(d groupDir) bool { return d.has(IO) })
	var d groupDir
	if i >= 0 {
		d = g.dirs[i]
	}
	lacks := func(name string, wanted, ok bool) {
		if wanted && !ok {
			missing = append(missing, name)
		}
	}
	lacks(IOWeight, lim.Weight > 0, lim.Weight > 0 && i >= 0 && d.ioWeight(lim.Weight, bfq))
	lacks(IORead, lim.ReadBPS > 0, lim.ReadBPS > 0 && i >= 0 && d.ioRate(devices, "read", "rbps", lim.ReadBPS))
	writes := lim.WriteBPS > 0 && i >= 0 && d.ioRate(devices, "write", "wbps", lim.WriteBPS)
	lacks(IOWrite, lim.WriteBPS > 0, writes)
	lacks(IOBuffered, writes, d.version == 2)
	return missing
}

// ioWeight sets the weight, and says whether anything heeds it: a file may be
// there while the scheduler of every disk ignores it.
func (d groupDir) ioWeight(weight int64, bfq bool) bool {
	value := fmt.Sprint(weight)
	try := func(file string) bool { return write(filepath.Join(d.path, file), value) == nil }
	if d.version == 1 {
		return try("blkio.bfq.weight") && bfq
	}
	qos, _ := os.ReadFile(filepath.Join(d.mount, "io.cost.qos"))
	cost := try("io.weight") && strings.Contains(string(qos), "enable=1")
	return try("io.bfq.weight") && bfq || cost
}

// ioRate bounds one direction on every disk. A rate of 0 lifts the bound.
func (d groupDir) ioRate(devices []string, v1, v2 string, rate int64) bool {
	done := len(devices) > 0
	for _, dev := range devices {
		file, value := "blkio.throttle."+v1+"_bps_device", fmt.Sprintf("%s %d", dev, rate)
		if d.version == 2 {
			file, value = "io.max", fmt.Sprintf("%s %s=%d", dev, v2, rate)
			if rate == 0 {
				value = fmt.Sprintf("%s %s=max", dev, v2)
			}
		}
		done = write(filepath.Join(d.path, file), value) == nil && done
	}
	return done
}

// ReleaseIO lifts the rates: a process that waits for a disk at a low rate could
// not die before its turn.
func (g *Group) ReleaseIO() {
	devices, _ := disks()
	for _, d := range g.dirs {
		if d.has(IO) {
			d.ioRate(devices, "read", "rbps", 0)
			d.ioRate(devices, "write", "wbps", 0)
		}
	}
}
