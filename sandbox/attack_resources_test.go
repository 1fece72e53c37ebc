package sandbox

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Threats to what all share: processors, disks, descriptors.

// A hog of many processes beside a neighbour that wants one processor. Both are
// measured over the same time, from when the hog is up until the neighbour has had
// some, and what the neighbour gets is told as a multiple of what the hog gets:
// whatever else runs on the machine takes from both.
func TestAttackCPUHogBesideNeighbour(t *testing.T) {
	needRoot(t)
	const least = 200 * time.Millisecond // of the neighbour's CPU time
	// It is measured until it is as wanted or enough is enough: on a crowded machine
	// a short look sees slices, not shares.
	multiple := func(r *Runtime, want float64, enough time.Duration) float64 {
		busy := func(id string, millis int64, script string) *Sandbox {
			spec := shell(script)
			spec.ID, spec.Limits = id, Limits{CPUMillis: millis}
			up, w := io.Pipe()
			s, err := r.Start(t.Context(), withDefaults(spec), Streams{Stdout: w})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(up, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			return s
		}
		used := func(s *Sandbox) time.Duration {
			d, ok := s.group.CPU()
			if !ok {
				t.Fatal("CPU time is not counted here")
			}
			return d
		}
		neighbour := busy("neighbour", 1000, "echo up; while :; do :; done")
		hog := busy("hog", 100, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do while :; do :; done & done; echo up; while :; do :; done")
		n0, h0 := used(neighbour), used(hog)
		got := 0.0
		for n := time.Duration(0); n < least || n < enough && got < want; {
			before := n
			eventually(t, "the neighbour gets on", func() bool { n = used(neighbour) - n0; return n > before+10*time.Millisecond })
			got = n.Seconds() / max((used(hog)-h0).Seconds(), 1e-3)
		}
		for _, s := range []*Sandbox{neighbour, hog} {
			s.Kill(EndCancelled)
			wantReason(t, outcome{Result: s.Wait()}, EndCancelled)
		}
		return got
	}
	// Granted is ten times as much.
	held, off := multiple(testRuntime(t, 0), 4, 3*time.Second), multiple(testRuntime(t, ctlCgroups), 0, least)
	if held < 4 {
		t.Errorf("the neighbour got %.1f times what the hog got, want about 10", held)
	}
	if off > held/2 {
		t.Errorf("without limits it got %.1f times as much, with them %.1f: the test sees nothing", off, held)
	}
	t.Logf("%.1f times with limits, %.1f without", held, off)
}

// fill tries to write four times what a folder may hold, in bytes or in files.
func fillFolder(t *testing.T, off control, warm int, dir, what string) outcome {
	t.Helper()
	script := "dd if=/dev/zero of=" + dir + "/x bs=64k count=64"
	if what == "inodes" {
		script = "i=0; while [ $i -lt 1024 ]; do : > " + dir + "/$i || exit 1; i=$((i+1)); done"
	}
	spec := shell(script)
	spec.Limits = Limits{TmpBytes: 1 << 20, CPUMillis: 1000}
	if dir == "/scratch" {
		spec.Scratch = &Scratch{Target: dir, Bytes: 1 << 20, Inodes: 256}
	}
	return runSpec(t, poolRuntime(t, off, warm), spec)
}

// guards P7
func TestAttackDiskFill(t *testing.T) { folders(t, "bytes") }

func TestAttackInodeFill(t *testing.T) { folders(t, "inodes") }

func folders(t *testing.T, what string) {
	for _, dir := range []string{"/tmp", "/dev/shm", "/scratch"} {
		for warm := range 2 {
			if o := fillFolder(t, 0, warm, dir, what); o.ExitCode < 1 || !strings.Contains(o.stderr, "No space left") {
				t.Errorf("%s of %s: want no space: %s", what, dir, o)
			}
		}
		if o := fillFolder(t, ctlTmp, 0, dir, what); o.ExitCode != 0 {
			t.Errorf("%s of %s without bounds: %s", what, dir, o)
		}
	}
}

func TestAttackDescriptors(t *testing.T) {
	enoughDescriptors(t)
	attack{
		probe: "descriptors",
		args:  []string{fmt.Sprint(taskFiles + 100)},
		held:  []string{"open EMFILE"},
		twins: []twin{{ctlLimits, []string{"open ok"}}},
	}.run(t)
}

// Descriptors that are on their way in a socket are in no process's table.
// Sockets that carry each other in a ring can only be found by the kernel's own
// collector, and what they hold is charged to the attempt.
func TestAttackDescriptorRing(t *testing.T) {
	enoughDescriptors(t)
	attack{
		probe: "ring",
		args:  []string{fmt.Sprint(2 * taskFiles)},
		held:  []string{"queued ETOOMANYREFS", "ring ETOOMANYREFS"},
		twins: []twin{{ctlLimits, []string{"queued ok", "ring ok"}}},
	}.run(t)
	// Rings that are left behind count against the attempt, until the collector
	// comes. Where it is late the attempt dies of them: nobody else does.
	both(t, func(t *testing.T, r *Runtime) {
		o := probe(t, r, Spec{Limits: Limits{MemoryBytes: hoardLimit * mib, CPUMillis: 2000}}, "rings-left", "20000")
		if o.Reason != EndExit && o.Reason != EndOutOfMemory || o.Usage.MemoryPeakBytes > (hoardLimit+1)*mib {
			t.Errorf("%s", o)
		}
	})
}

// What a kernel counts for the whole machine, or for the host's root too.
func TestAttackSharedCounters(t *testing.T) {
	attack{
		probe: "counters",
		held:  []string{"watchers EMFILE", "watches ENOSPC", "aio ENOSYS", "mqueue EMFILE"},
		twins: []twin{
			{ctlSeccomp, []string{"aio ok"}},
			{ctlLimits, []string{"watchers ok", "watches ok", "mqueue EACCES|ok"}}, // Landlock's word
		},
	}.run(t)
	// Huge pages are the machine's, and charged to nobody. There may be none here.
	t.Run("huge_pages", func(t *testing.T) {
		t.Run("mmap", asked(strconv.Itoa(unix.SYS_MMAP), fmt.Sprintf("huge ENOMEM 0,4096,3,%d", unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB)).run)
		t.Run("shmget", asked(strconv.Itoa(unix.SYS_SHMGET), fmt.Sprintf("huge ENOMEM 0,4096,%d", 0o4000|0o1600)).run)
		t.Run("memfd", asked(strconv.Itoa(unix.SYS_MEMFD_CREATE), fmt.Sprintf("huge ENODEV 0,%d", unix.MFD_HUGETLB)).run)
	})
}

// enoughDescriptors wants a machine on which the limit is not its own.
func enoughDescriptors(t *testing.T) {
	t.Helper()
	var have unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &have); err != nil || have.Max < 3*taskFiles {
		t.Fatalf("run this with a hard limit of at least %d open files, not %d (ulimit -Hn): it is the twin's", 3*taskFiles, have.Max)
	}
}

func init() {
	probes["descriptors"], probes["ring"], probes["rings-left"] = probeDescriptors, probeRing, probeRingsLeft
	probes["counters"] = probeCounters
}

// probeCounters takes a little more than a task may have, and little of what the
// machine has.
func probeCounters([]string) {
	var err error
	fd := -1
	for range watchers + 1 {
		var next int
		if next, err = unix.InotifyInit1(unix.IN_CLOEXEC); err == nil {
			fd = next
		}
	}
	tell("watchers", err)
	err = nil
	for i := 0; i <= watches && err == nil; i++ {
		name := fmt.Sprintf("/tmp/%d", i)
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			_, err = unix.InotifyAddWatch(fd, name, unix.IN_ATTRIB)
		}
	}
	tell("watches", err)
	var context uintptr
	tellCall("aio", unix.SYS_IO_SETUP, 16, uintptr(unsafe.Pointer(&context)))
	tell("mqueue", messageQueue(unix.O_RDWR|unix.O_CREAT))
}

// counted is how often something is to be done.
func counted(args []string) (n int) {
	_, _ = fmt.Sscan(args[0], &n)
	return n
}

func probeDescriptors(args []string) {
	allDescriptors()
	var err error
	for range counted(args) {
		if _, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			break
		}
	}
	tell("open", err)
}

// allDescriptors raises the soft limit, as any program may.
func allDescriptors() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	}
}

const perMessage = 250 // descriptors; the kernel takes 253

// queue is a socket that descriptors can be left in.
type queue [2]int

func newQueue() (queue, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	return p, err
}

func (q queue) put(fds ...int) error {
	return unix.Sendmsg(q[0], []byte("x"), unix.UnixRights(fds...), nil, 0)
}

// probeRing leaves descriptors in queues: plain ones, and sockets that carry
// each other. The queues stay open, so that nothing of it is garbage.
func probeRing(args []string) {
	allDescriptors()
	n := counted(args)
	many := make([]int, perMessage)
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for i := range many {
		many[i] = null
	}
	var full []queue
	for left := n; left > 0 && err == nil; left -= perMessage {
		var q queue
		if q, err = newQueue(); err == nil {
			err = q.put(many...)
		}
		full = append(full, q)
	}
	tell("queued", err)
	for _, q := range full {
		unix.Close(q[0])
		unix.Close(q[1]) // and what is in there
	}
	const perQueue = 8 // net.unix.max_dgram_qlen is 10
	var keep queue
	err = nil
	for i := 0; i < n/6 && err == nil; i++ {
		if i%perQueue == 0 {
			keep, err = newQueue()
		}
		if err == nil {
			err = ring(keep)
		}
	}
	tell("ring", err)
}

// ring makes two pairs that carry each other and leaves them to keep.
func ring(keep queue) error {
	a, err := newQueue()
	if err != nil {
		return err
	}
	defer func() { unix.Close(a[0]); unix.Close(a[1]) }()
	b, err := newQueue()
	if err != nil {
		return err
	}
	defer func() { unix.Close(b[0]); unix.Close(b[1]) }()
	for _, put := range []func() error{
		func() error { return a.put(b[0], b[1]) }, func() error { return b.put(a[0], a[1]) }, func() error { return keep.put(a[1], b[1]) }, // the ends with the messages
	} {
		if err := put(); err != nil {
			return err
		}
	}
	return nil
}

// probeRingsLeft makes rings that nobody holds.
func probeRingsLeft(args []string) {
	made := 0
	for range counted(args) {
		a, err := newQueue()
		if err != nil {
			tell("socketpair", err)
			break
		}
		if err = a.put(a[0], a[1]); err == nil {
			made++
		} else if err != unix.ETOOMANYREFS { // until the collector was there
			tell("put", err)
			break
		}
		unix.Close(a[0])
		unix.Close(a[1])
	}
	fmt.Fprintln(os.Stderr, "made", made)
}
