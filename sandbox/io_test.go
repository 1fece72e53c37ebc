package sandbox

import (
	"slices"
	"testing"
	"time"

	"holdfast/sandbox/cgroup"
)

// A task reads from a disk at its rate, and dies at once all the same.
func TestReadRate(t *testing.T) {
	r := testRuntime(t, 0)
	l, ok := r.host.controllers[cgroup.IO]
	spec := Spec{Command: []string{"/bin/dd", "if=/usr/bin/bash", "of=/dev/null", "iflag=direct", "bs=64k", "count=12"}}
	spec.Limits.IOReadBPS = 512 << 10
	o := runSpec(t, r, spec)
	if !ok || slices.Contains(o.NotEnforced, cgroup.IORead) {
		t.Logf("this machine cannot limit IO (%v), and says so: %v", l, o.NotEnforced)
		if !slices.Contains(o.NotEnforced, cgroup.IORead) {
			t.Error("it does not say so")
		}
		return
	}
	wantExit(t, o, 0) // 768 KiB at 512 KiB/s
	if o.Usage.Wall < 800*time.Millisecond {
		t.Errorf("read in %s", o.Usage.Wall)
	}
	spec.Limits.IOReadBPS = 0
	if free := runSpec(t, r, spec); free.Usage.Wall > o.Usage.Wall/2 || free.NotEnforced != nil {
		t.Logf("without a limit it took %s: the machine is too busy to tell", free.Usage.Wall)
	}
	spec.Limits = Limits{IOReadBPS: 1000, WallTime: 300 * time.Millisecond} // a minute for one block
	o = runSpec(t, r, spec)
	wantReason(t, o, EndTimeout)
	if o.Usage.Wall > 10*time.Second {
		t.Errorf("it took %s to die", o.Usage.Wall)
	}
	for _, c := range []cgroup.IOLimits{{WriteBPS: 1 << 20}, {Weight: 10}} {
		spec := shell("true")
		spec.Limits.IOWeight, spec.Limits.IOWriteBPS = c.Weight, c.WriteBPS
		o := runSpec(t, r, spec)
		wantExit(t, o, 0)
		if l.Version == 1 && len(o.NotEnforced) == 0 {
			t.Errorf("%+v: all enforced on v1", c)
		}
	}
}
