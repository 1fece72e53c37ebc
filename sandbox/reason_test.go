package sandbox

import (
	"strings"
	"testing"
	"time"
)

// Processes that each stay below the limit pass it together: a resource limit
// of the kernel would never end them.
func TestCPUTimeOfAllProcesses(t *testing.T) { both(t, testCPUTime) }

func testCPUTime(t *testing.T, r *Runtime) {
	spec := shell("while :; do (i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done); done")
	spec.Limits = Limits{CPUTime: 300 * time.Millisecond, CPUMillis: 1000, WallTime: 50 * time.Second}
	o := runSpec(t, r, spec)
	wantReason(t, o, EndCPUTime)
	if o.Usage.CPU < 300*time.Millisecond || o.Usage.CPU > 700*time.Millisecond || !strings.Contains(o.Message, "300ms") {
		t.Errorf("%s", o)
	}
	spec.Limits.CPUTime, spec.Limits.WallTime = 0, 600*time.Millisecond
	wantReason(t, runSpec(t, r, spec), EndTimeout) // nothing else would have ended it
	quick := shell("exit 4")
	quick.Limits.CPUTime = time.Minute
	if o := runSpec(t, r, quick); o.Reason != EndExit || o.ExitCode != 4 || o.NotEnforced != nil {
		t.Errorf("%s", o)
	}
}

// guards P7
func TestScratchIsBounded(t *testing.T) { both(t, testScratch) }

func testScratch(t *testing.T, r *Runtime) {
	for _, target := range []string{"/scratch", "/tmp/scratch"} { // the second suits a warm sandbox
		run := func(script string, bytes, inodes, memory int64) outcome {
			spec := shell("cd " + target + " && " + script)
			spec.Scratch = &Scratch{Target: target, Bytes: bytes, Inodes: inodes}
			spec.Limits.MemoryBytes = memory
			return runSpec(t, r, spec)
		}
		o := run("echo x > f && mkdir d && mv f d && cp /bin/true . && ./true && ls -dn . && ls -A", 8<<20, 100, 0)
		wantExit(t, o, 0)
		if !strings.Contains(o.stdout, "drwx------") || !strings.Contains(o.stdout, "1000 1000") || !strings.HasSuffix(o.stdout, "d\ntrue\n") {
			t.Errorf("%s", o)
		}
		wantExit(t, run("test -z \"$(ls -A)\"", 1<<20, 100, 0), 0) // nothing of the last one
		wantReason(t, run("dd if=/dev/zero of=f bs=64k count=32", 1<<20, 100, 0), EndDiskLimit)
		wantReason(t, run("i=0; while [ $i -lt 100 ]; do : > $i || exit 1; i=$((i+1)); done", 1<<20, 50, 0), EndDiskLimit)
		wantExit(t, run("dd if=/dev/zero of=f bs=64k count=32; true", 1<<20, 100, 0), 0) // it copes
		wantExit(t, run("dd if=/dev/zero of=f bs=64k count=8; exit 3", 1<<20, 100, 0), 3)
		// It is memory of the attempt.
		wantReason(t, run("dd if=/dev/zero of=f bs=1M count=100", 256<<20, 100, 32<<20), EndOutOfMemory)
	}
}

func TestScratchSpecs(t *testing.T) {
	for _, c := range []struct {
		scratch Scratch
		field   string
	}{
		{Scratch{"/scratch", 1 << 20, 64}, ""},
		{Scratch{"/tmp/a", 1 << 20, 64}, ""},
		{Scratch{"scratch", 1 << 20, 64}, "Scratch.Target"},
		{Scratch{"/usr/x", 1 << 20, 64}, "Scratch.Target"},
		{Scratch{"/tmp", 1 << 20, 64}, "Scratch.Target"},
		{Scratch{"/data/x", 1 << 20, 64}, "Scratch.Target"},
		{Scratch{"/scratch", 100, 64}, "Scratch.Bytes"},
		{Scratch{"/scratch", -1, 64}, "Scratch.Bytes"},
		{Scratch{"/scratch", 1 << 20, 1}, "Scratch.Inodes"},
	} {
		spec := withDefaults(shell("true"))
		spec.Mounts, spec.Scratch = []Mount{{Source: "/srv", Target: "/data"}}, &c.scratch
		err := spec.Validate()
		if (err == nil) != (c.field == "") || err != nil && !strings.Contains(err.Error(), c.field) {
			t.Errorf("%+v: %v", c.scratch, err)
		}
	}
}
