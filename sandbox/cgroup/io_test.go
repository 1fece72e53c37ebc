package cgroup

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestIOLimits(t *testing.T) {
	defer func(was string) { sysBlock = was }(sysBlock)
	block := func(scheduler string) {
		sysBlock = tree(t, map[string]string{"vda/dev": "254:0\n", "vda/queue/scheduler": scheduler, "sda/dev": "8:0\n",
			"loop0/dev": "7:0\n", "zram0/dev": "252:0\n"})
	}
	lim := IOLimits{Weight: 50, ReadBPS: 1 << 20, WriteBPS: 2 << 20}
	v1 := group(t, 1, []string{IO}, "blkio.bfq.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device")
	v2 := group(t, 2, []string{Memory, IO}, "io.weight", "io.bfq.weight", "io.max")
	v2.mount = filepath.Dir(v2.path)
	for _, c := range []struct {
		d         groupDir
		scheduler string
		missing   []string
	}{
		{v1, "none [bfq]", []string{IOBuffered}},
		{v1, "[none] bfq", []string{IOWeight, IOBuffered}},
		{v2, "none [bfq]", nil},
		{v2, "[none] bfq", []string{IOWeight}},
		{group(t, 1, []string{IO}), "[bfq]", []string{IOWeight, IORead, IOWrite}},
		{group(t, 2, []string{Memory}), "[bfq]", []string{IOWeight, IORead, IOWrite}},
	} {
		block(c.scheduler)
		g := Group{dirs: []groupDir{c.d}}
		if err := g.Limit(Limits{IO: lim}); err != nil || !slices.Equal(g.NotEnforced(), c.missing) {
			t.Errorf("v%d, %s: %q not enforced, want %q, %v", c.d.version, c.scheduler, g.NotEnforced(), c.missing, err)
		}
	}
	// Each file has what was written last, over the beginning of what it had.
	for file, want := range map[string]string{
		v1.path + "/blkio.throttle.read_bps_device": "254:0 1048576", v1.path + "/blkio.throttle.write_bps_device": "254:0 2097152",
		v2.path + "/io.max": "254:0 wbps=2097152", v1.path + "/blkio.bfq.weight": "50", v2.path + "/io.weight": "50",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	g := Group{dirs: []groupDir{v2}}
	if g.ReleaseIO(); read(t, v2.path+"/io.max")[:14] != "254:0 wbps=max" {
		t.Errorf("%q after the release", read(t, v2.path+"/io.max"))
	}
}
