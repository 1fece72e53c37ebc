package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Memory that is not a process's own: each way to hold it must be charged to the
// attempt, or it is the machine that pays.

const hoardLimit = 64 // MiB

// hoard tries to hold twice the limit in one way, and returns how much it got.
func hoard(t *testing.T, r *Runtime, kind string) (outcome, int) {
	t.Helper()
	spec := Spec{Limits: Limits{MemoryBytes: hoardLimit * mib, TmpBytes: 4 * hoardLimit * mib}}
	o := probe(t, r, spec, "hoard", kind, fmt.Sprint(2*hoardLimit))
	got := 0
	for l := range strings.Lines(o.stdout) {
		_, _ = fmt.Sscanf(l, "holds %d", &got)
	}
	return o, got
}

func hoarded(t *testing.T, kind string, end ...EndReason) {
	t.Helper()
	both(t, func(t *testing.T, r *Runtime) {
		o, got := hoard(t, r, kind)
		ended := false
		for _, e := range end {
			ended = ended || o.Reason == e
		}
		if !ended || got == 0 || got >= hoardLimit || o.Usage.MemoryPeakBytes > (hoardLimit+1)*mib {
			t.Errorf("held %d MiB of %d, want an end by %v: %s", got, hoardLimit, end, o)
		}
		if o.Reason == EndExit && !strings.Contains(o.stdout, "refused") {
			t.Errorf("nothing stopped it: %s", o)
		}
	})
	if o, got := hoard(t, testRuntime(t, ctlCgroups), kind); got <= hoardLimit {
		t.Errorf("without limits it held %d MiB, want more than %d: %s", got, hoardLimit, o)
	}
}

func TestAttackMemoryHeap(t *testing.T) { hoarded(t, "heap", EndOutOfMemory) }

func TestAttackMemoryTmp(t *testing.T) { hoarded(t, "tmp", EndOutOfMemory) }

func TestAttackMemoryShm(t *testing.T) { hoarded(t, "shm", EndOutOfMemory) }

func TestAttackMemoryMemfd(t *testing.T) { hoarded(t, "memfd", EndOutOfMemory) }

func TestAttackMemoryPipes(t *testing.T) { hoarded(t, "pipes", EndOutOfMemory) }

func TestAttackMemoryUnixSockets(t *testing.T) { hoarded(t, "unix", EndOutOfMemory) }

// The kernel of v1 counts these apart and does not kill for them: what does not
// fit is held up or dropped.
func TestAttackMemoryTCPSockets(t *testing.T) { hoarded(t, "tcp", EndExit, EndOutOfMemory) }

func TestAttackMemoryUDPSockets(t *testing.T) { hoarded(t, "udp", EndExit, EndOutOfMemory) }

// What a socket holds that no counter knows, of the groups or of the network: the
// filter refuses the socket, or the option. The limit holds none of it.
func TestAttackUnchargedMemory(t *testing.T) {
	for kind, answer := range map[string]string{"netlink": "ENOSYS", "errors": "ENOPROTOOPT", "stamps": "ENOPROTOOPT"} {
		t.Run(kind, attack{
			probe: "hoard",
			args:  []string{kind, fmt.Sprint(2 * hoardLimit)},
			spec:  Spec{Limits: Limits{MemoryBytes: hoardLimit * mib, CPUMillis: 2000}},
			held:  []string{"refused " + answer},
			twins: []twin{{ctlSeccomp, []string{fmt.Sprint("holds ", 2*hoardLimit)}}},
		}.run)
	}
}

func TestAttackMemoryQueues(t *testing.T) { hoarded(t, "queues", EndOutOfMemory) }

// The page cache of files that a task reads is its own to pay for: it pushes out
// its own pages, not its neighbours'.
func TestAttackMemoryPageCache(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-cache-") // the pages of a tmpfs are no cache
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := 0
	read := func(t *testing.T, r *Runtime) (outcome, int64) {
		t.Helper()
		// A new one each time: pages that are there already belong to who read them first.
		files++
		name := filepath.Join(dir, fmt.Sprint(files))
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, 4*hoardLimit*mib); err != nil {
			t.Fatal(err)
		}
		spec := withMount(Spec{Command: []string{"/bin/dd", "if=/data", "of=/dev/null", "bs=1M"}, Limits: Limits{MemoryBytes: hoardLimit * mib}}, name, "/data", false)
		o := runSpec(t, r, spec)
		wantExit(t, o, 0)
		return o, o.Usage.MemoryPeakBytes / mib
	}
	both(t, func(t *testing.T, r *Runtime) {
		if o, peak := read(t, r); peak > hoardLimit+1 || peak < hoardLimit/2 {
			t.Errorf("peak of %d MiB, want it charged up to %d: %s", peak, hoardLimit, o)
		}
	})
	if o, peak := read(t, testRuntime(t, ctlCgroups)); peak < 2*hoardLimit {
		t.Errorf("without limits the peak is %d MiB, want more than %d: %s", peak, 2*hoardLimit, o)
	}
}
