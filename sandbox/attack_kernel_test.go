package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Threats by files of the kernel. Files of the whole machine are opened, and
// never written to.

func TestAttackWritableKernelFiles(t *testing.T) {
	open := func(t *testing.T, r *Runtime) (files []string) {
		o := probe(t, r, Spec{}, "writable")
		wantExit(t, o, 0)
		tried := 0
		for l := range strings.Lines(o.stdout) {
			what, name, _ := strings.Cut(strings.TrimSpace(l), " ")
			switch {
			case what == "tried":
				tried, _ = strconv.Atoi(name)
			default:
				files = append(files, name)
			}
		}
		if tried < 100 {
			t.Fatalf("only %d files were tried: %s", tried, o)
		}
		return files
	}
	both(t, func(t *testing.T, r *Runtime) {
		if files := open(t, r); files != nil {
			t.Errorf("open for writing: %v", files)
		}
	})
	// Behind Landlock stand the read-only bind of /proc/sys and its owner, root; and
	// the host's root is in no namespace: what is the machine's stays closed even to
	// who is root of the launcher's, to which the sandbox's network belongs.
	for _, c := range []struct {
		off  control
		gets string
	}{
		{ctlLandlock, "/proc/self/mem"},
		{ctlLandlock | ctlMask, "/proc/self/oom_score_adj"},
		{rootInside | ctlMask, "/proc/sys/net/ipv4/ip_forward"},
	} {
		files := open(t, testRuntime(t, c.off))
		if !slices.Contains(files, c.gets) {
			t.Errorf("with control %b off the attack should get to %s: %v", c.off, c.gets, files)
		}
		for _, f := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/panic"} {
			if slices.Contains(files, f) {
				t.Errorf("with control %b off %s is open", c.off, f)
			}
		}
	}
}

// CVE-2022-0492: a cgroup v1 file that names a program of the host's to run.
// Nothing is mounted even in the twins: who gets as far as the controller's name
// was let in.
func TestAttackReleaseAgent(t *testing.T) {
	attack{
		probe: "release-agent",
		held:  []string{"mount EPERM", "fsopen-v1 EPERM", "fsopen-v2 EPERM", "files none", "path hidden"},
		twins: []twin{
			{ctlSeccomp, []string{"mount EPERM", "fsopen-v1 EPERM", "fsopen-v2 EPERM"}},
			{rootInside, []string{"mount EINVAL|ENODEV", "fsopen-v1 ok|ENODEV", "fsopen-v2 ok", "files none"}},
		},
	}.run(t)
	r := testRuntime(t, 0)
	for _, l := range r.host.controllers {
		_, err := r.Start(t.Context(), withDefaults(withMount(shell("true"), l.Base, "/x", false)), Streams{})
		var bad *ErrInvalidSpec
		if !errors.As(err, &bad) || !strings.Contains(bad.Reason, "window into the kernel") {
			t.Errorf("%s was granted: %v", l.Base, err)
		}
	}
}

// What tells of the machine and of who else is on it, and who uses it when.
func TestAttackInformationLeaks(t *testing.T) {
	files := []string{"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kmsg", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/cmdline",
		"/proc/interrupts", "/proc/sys/kernel/random/boot_id", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/pagetypeinfo", "/proc/kpagecount", "/proc/kpageflags",
		"/proc/1/environ", "/proc/1/maps", "/dev/mem", "/dev/kmsg", "/etc/machine-id"}
	dirs := []string{"/proc/acpi", "/proc/asound", "/proc/bus", "/proc/driver", "/proc/fs", "/proc/irq", "/proc/pressure", "/proc/scsi", "/sys"}
	attack{
		probe: "leaks",
		args:  append(slices.Clone(files), dirs...),
		held:  append(answers("empty|ENOENT|EACCES|EPERM|EIO|EINVAL|EAGAIN", append(slices.Clone(files), dirs...)...), "/proc/kallsyms zeros|ENOENT", "/proc/self/pagemap zeros|ENOENT|EPERM"),
		twins: []twin{{ctlMask, append(answers("tells", "/proc/cmdline", "/proc/interrupts", "/proc/sys/kernel/random/boot_id", "/proc/fs", "/proc/irq"), "/sys ENOENT")}},
	}.run(t)
}

// Devices are neither found, nor made, nor opened where a folder of the host has
// them.
func TestAttackDevices(t *testing.T) {
	needRoot(t)
	dir := hostDir(t, 0, 0o755, 0o644)
	// zero is harmless, and no other file system has the right to it.
	if err := errors.Join(unix.Mknod(filepath.Join(dir, "zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))), os.Chmod(filepath.Join(dir, "zero"), 0o666)); err != nil {
		t.Fatal(err)
	}
	made := []string{"mknod-char", "mknod-block"}
	attack{
		probe: "devices",
		spec:  withMount(Spec{}, dir, "/data", false),
		held:  append(answers("EPERM", made...), "granted EACCES", "found 5"),
		twins: []twin{
			{ctlSeccomp | ctlCaps, answers("EPERM", made...)}, // it takes a capability over the host
			{ctlNoDev, []string{"granted ok"}},
		},
	}.run(t)
	if o := onHost(t, "devices"); missingLines(o, []string{"mknod-char ok"}) != nil {
		t.Errorf("as the host's root the attack should get further: %s", o)
	}
}

// A task goes first when the machine runs out of memory, and cannot have others
// go before it. The file is its own process's.
func TestAttackOOMScore(t *testing.T) {
	attack{
		probe: "oom-score",
		held:  []string{"score 900", "lower EACCES", "end-last EACCES"},
		twins: []twin{{ctlLandlock, []string{"score 900", "lower ok"}}},
	}.run(t)
}

func init() {
	for name, f := range map[string]func([]string){
		"writable": probeWritable, "release-agent": probeReleaseAgent, "leaks": probeLeaks, "devices": probeDevices, "oom-score": probeOOMScore,
	} {
		probes[name] = f
	}
}

func probeWritable([]string) {
	tried := 0
	for _, top := range []string{"/proc", "/proc/self/", "/proc/thread-self/", "/sys"} {
		_ = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if e.IsDir() {
				if _, err := strconv.Atoi(e.Name()); err == nil && top == "/proc" {
					return filepath.SkipDir // itself, by its other name
				}
				return nil
			}
			if strings.Contains(path, "/fd/") || strings.Contains(path, "/map_files/") {
				return nil // its own files, whatever they are
			}
			tried++
			fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil
			}
			f := os.NewFile(uintptr(fd), path)
			if !covered(f) {
				fmt.Println("writable", path)
			}
			f.Close()
			return nil
		})
	}
	fmt.Println("tried", tried)
}

func probeReleaseAgent([]string) {
	_ = os.Mkdir("/tmp/m", 0o755)
	tell("mount", unix.Mount("none", "/tmp/m", "cgroup", 0, "no-such-controller-of-holdfast"))
	for name, kind := range map[string]string{"fsopen-v1": "cgroup", "fsopen-v2": "cgroup2"} {
		fd, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
		tell(name, err)
		unix.Close(fd)
	}
	found := "none"
	_ = filepath.WalkDir("/", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && (path == "/usr" || path == "/proc/self/task" || path == "/proc/"+strconv.Itoa(os.Getpid())) {
			return filepath.SkipDir
		}
		if err == nil && slices.Contains([]string{"release_agent", "notify_on_release", "cgroup.procs", "cgroup.kill"}, e.Name()) {
			found = path
		}
		return nil
	})
	fmt.Println("files", found)
	b, err := os.ReadFile("/proc/self/cgroup")
	path := "hidden"
	for l := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(l), ":", 3); len(f) != 3 || strings.Contains(f[2], "holdfast") {
			path = "shown"
		}
	}
	if err != nil {
		path = errno(err)
	}
	fmt.Println("path", path)
}

func probeLeaks(paths []string) {
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		n := 0
		if err == nil {
			if st, serr := f.Stat(); serr == nil && st.IsDir() {
				var names []string
				names, err = f.Readdirnames(-1)
				n = len(names)
			} else {
				n, err = f.Read(make([]byte, 64))
			}
			f.Close()
		}
		switch {
		case n > 0:
			fmt.Println(path, "tells")
		case err == nil || errors.Is(err, io.EOF):
			fmt.Println(path, "empty")
		default:
			fmt.Println(path, errno(err))
		}
	}
	zeros := func(path string, b []byte, err error, zero func(string) bool) {
		if err != nil {
			tell(path, err)
		} else if zero(string(b)) {
			fmt.Println(path, "zeros")
		} else {
			fmt.Println(path, "tells")
		}
	}
	b, err := os.ReadFile("/proc/kallsyms")
	zeros("/proc/kallsyms", b, err, func(s string) bool {
		for l := range strings.Lines(s) {
			if strings.Trim(strings.Fields(l)[0], "0") != "" {
				return false
			}
		}
		return true
	})
	// The entry of a page that is there: its frame's number must not be.
	page := make([]byte, os.Getpagesize())
	page[0] = 1
	f, err := os.Open("/proc/self/pagemap")
	entry := make([]byte, 8)
	if err == nil {
		_, err = f.ReadAt(entry, int64(addressOf(page))/int64(os.Getpagesize())*8)
	}
	zeros("/proc/self/pagemap", entry[:6], err, func(s string) bool { return strings.Trim(s, "\x00") == "" })
}

func probeDevices([]string) {
	dir, _ := os.MkdirTemp("", "holdfast-devices-")
	defer os.RemoveAll(dir)
	for name, mode := range map[string]uint32{"mknod-char": unix.S_IFCHR, "mknod-block": unix.S_IFBLK} {
		tell(name, unix.Mknod(filepath.Join(dir, name), mode|0o600, int(unix.Mkdev(1, 3))))
	}
	f, err := os.Open("/data/zero")
	if err == nil {
		_, err = f.Read(make([]byte, 1))
	}
	tell("granted", err)
	found := 0
	if os.Getuid() == 0 {
		return // on the host
	}
	_ = filepath.WalkDir("/", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && (path == "/proc" || path == "/data" || path == "/usr") {
			return filepath.SkipDir
		}
		if st, serr := os.Lstat(path); serr == nil && st.Mode()&fs.ModeDevice != 0 {
			found++
		}
		return nil
	})
	fmt.Println("found", found)
}

func probeOOMScore([]string) {
	b, err := os.ReadFile("/proc/self/oom_score_adj")
	fmt.Println("score", strings.TrimSpace(string(b)), map[bool]string{false: errno(err)}[err == nil])
	for what, score := range map[string]string{"lower": "899", "end-last": "-1000"} {
		tell(what, os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0))
	}
}
