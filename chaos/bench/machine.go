package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/chaos/bench/etcd"
)

// machine is what a figure cannot be read without.
type machine struct {
	CPU        string        `json:"cpu"`
	Cores      int           `json:"cores"`
	MemoryMiB  uint64        `json:"memory_mib"`
	Kernel     string        `json:"kernel"`
	Disk       string        `json:"disk"`
	Fsync      time.Duration `json:"fsync_median"`
	Load       string        `json:"load_average_before"`
	Holdfast   string        `json:"holdfast"`
	Etcd       string        `json:"etcd"`
	Go         string        `json:"go"`
	Parameters string        `json:"parameters"`
	Started    time.Time     `json:"started"`
}

func describe(ctx context.Context, o options) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: runtime.GOARCH, Started: time.Now().UTC().Truncate(time.Second)}
	if name := field("/proc/cpuinfo", "model name"); name != "" {
		m.CPU = name
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryMiB = uint64(info.Totalram) * uint64(info.Unit) >> 20
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	m.Disk = filesystem(o.dir)
	m.Fsync = syncTime(o.dir)
	m.Holdfast, m.Etcd = "holdfast not built", "not installed"
	if out, err := program(ctx, o.binary, "version"); err == nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		m.Holdfast = "holdfast " + strings.TrimSpace(strings.TrimPrefix(line, "Version"))
	}
	if v, err := etcd.Version(ctx); err == nil {
		m.Etcd = v
	}
	m.Parameters = fmt.Sprintf("%d rounds of %v after %v of warm-up; %d clients on %d connections; commands of %d bytes; fsync on", o.repeat, o.duration, o.warmup, o.clients, o.conns, commandBytes)
	return m
}

// Lines describe the machine for people.
func (m machine) Lines() []string {
	return []string{
		fmt.Sprintf("Machine: %d cores (%s), %d MiB, Linux %s; load average before: %s", m.Cores, m.CPU, m.MemoryMiB, m.Kernel, m.Load),
		fmt.Sprintf("Disk: %s, an append of 4 KiB with fdatasync takes %v (median)", m.Disk, m.Fsync.Round(time.Microsecond)),
		fmt.Sprintf("Versions: %s; etcd %s; %s", m.Holdfast, m.Etcd, m.Go),
		fmt.Sprintf("Run: %s, %s", m.Started.Format(time.RFC3339), m.Parameters),
	}
}

func field(path, key string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// filesystem names the type of the file system that holds dir.
func filesystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown"
	}
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "unknown"
	}
	best, kind := -1, "unknown"
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		below := dir == f[1] || strings.HasPrefix(dir, strings.TrimSuffix(f[1], "/")+"/")
		if below && len(f[1]) > best {
			best, kind = len(f[1]), f[2]
		}
	}
	return kind
}

// syncTime is what one durable append costs without anything of ours.
func syncTime(dir string) time.Duration {
	f, err := os.CreateTemp(dir, "hfbench-sync-")
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	page := make([]byte, 4<<10)
	var took []time.Duration
	for range 100 {
		begun := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2]
}
