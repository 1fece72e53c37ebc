package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// smallDisk is a file system of its own in a file.
type smallDisk struct {
	t     *testing.T
	mount string
	fill  string
}

// mountSmallDisk mounts a new ext4 of some MiB until the test ends.
func mountSmallDisk(t *testing.T, mount string, mib int64) *smallDisk {
	t.Helper()
	image := mount + ".img"
	if err := os.MkdirAll(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(mib<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs.ext4", "-q", "-m", "0", image) // nothing kept back for root
	command(t, "mount", "-o", "loop", image, mount)
	t.Cleanup(func() { command(t, "umount", mount) })
	return &smallDisk{t: t, mount: mount, fill: filepath.Join(mount, "fill")}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// fillUp leaves no free block.
func (d *smallDisk) fillUp() {
	d.t.Helper()
	f, err := os.OpenFile(d.fill, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatalf("fill the disk: %v", err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(d.fill); err != nil {
		d.t.Fatal(err)
	}
}

// freeze makes every write to the disk hang until thaw, which also comes at
// the test's end.
func (d *smallDisk) freeze() (thaw func()) {
	d.t.Helper()
	dir, err := os.Open(d.mount)
	if err != nil {
		d.t.Fatal(err)
	}
	// linux/fs.h: FIFREEZE is _IOWR('X', 119, int), FITHAW the next.
	const fifreeze, fithaw = 0xc0045877, 0xc0045878
	if err := unix.IoctlSetInt(int(dir.Fd()), fifreeze, 0); err != nil {
		d.t.Fatalf("freeze %s: %v", d.mount, err)
	}
	thawed := false
	thaw = func() {
		if thawed {
			return
		}
		thawed = true
		if err := errors.Join(unix.IoctlSetInt(int(dir.Fd()), fithaw, 0), dir.Close()); err != nil {
			d.t.Errorf("thaw %s: %v", d.mount, err)
		}
	}
	d.t.Cleanup(thaw)
	return thaw
}

// startOnSmallDisk makes a cluster whose leader keeps its data on a disk of
// its own.
func startOnSmallDisk(t *testing.T, ctx context.Context, env ...string) (*cluster.Cluster, *cluster.Node, *smallDisk) {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(scratch(t), "c")
	disk := mountSmallDisk(t, filepath.Join(dir, "node1"), 48)
	c := start(t, ctx, cluster.Options{Dir: dir, Env: env})
	first := c.Nodes[0]
	if l, _ := leader(t, ctx, c); l != first {
		// Only a busy machine moves leadership by itself.
		until(t, ctx, "the first node to lead", func(ctx context.Context) error {
			l, err := c.Leader(ctx)
			if err == nil && l != first {
				err = errors.Join(errors.New("another leads"), dial(t, c).Transfer(ctx))
			}
			return err
		})
	}
	return c, first, disk
}

// bulky is a task whose submission takes space in the log that cannot be
// compressed away.
func bulky(i int) client.TaskSpec {
	spec := shell(fmt.Sprintf("bulky-%d", i), "exit 0")
	b := make([]byte, 30<<10)
	_, _ = rand.Read(b) // never fails
	spec.StdinBase64 = b
	return spec
}

// guards P1 P12
func TestLeaderWithFullDisk(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c, full, disk := startOnSmallDisk(t, ctx)
	others := c.Nodes[1:]
	cl := dial(t, c, others...)

	disk.fillUp()
	var ids []string
	until(t, ctx, "the full node to lose its office", func(ctx context.Context) error {
		ids = append(ids, submit(t, ctx, cl, bulky(len(ids))).ID)
		st, err := c.Status(ctx, others[0])
		if err == nil && (st.Leader == "" || st.Leader == full.ID) {
			err = fmt.Errorf("leader %q after %d submissions", st.Leader, len(ids))
		}
		return err
	})
	if code := ended(t, ctx, full); code <= 0 {
		t.Errorf("the full node ended with status %d", code)
	}
	if log := full.Log(); !strings.Contains(log, "no space left on device") {
		t.Errorf("the full node's log does not say what is wrong:\n%s", log)
	}
	for i := range 5 {
		ids = append(ids, submit(t, ctx, cl, bulky(1000+i)).ID)
	}
	for _, id := range ids {
		wait(t, ctx, cl, id, "succeeded")
	}

	disk.free()
	restart(t, ctx, c, full)
	own := dial(t, c, full)
	for _, id := range ids {
		wait(t, ctx, own, id, "succeeded")
	}
	if err := c.WaitVoters(ctx, 3); err != nil {
		t.Fatal(err)
	}
}

// guards P12
func TestLeaderWhoseFsyncHangs(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c, hung, disk := startOnSmallDisk(t, ctx, "HOLDFAST_STALL_LIMIT=1s")
	others := c.Nodes[1:]
	cl := dial(t, c, others...)
	first := submit(t, ctx, cl, shell("before", "echo before"))
	wait(t, ctx, cl, first.ID, "succeeded")

	thaw := disk.freeze()
	defer thaw()
	// The write that meets the frozen disk is acknowledged by the others.
	during := submit(t, ctx, cl, shell("during", "echo during"))
	until(t, ctx, "the hung node to lose its office", func(ctx context.Context) error {
		st, err := c.Status(ctx, others[0])
		if err == nil && (st.Leader == "" || st.Leader == hung.ID) {
			err = fmt.Errorf("leader %q", st.Leader)
		}
		return err
	})
	after := submit(t, ctx, cl, shell("after", "echo after"))
	for _, id := range []string{during.ID, after.ID} {
		wait(t, ctx, cl, id, "succeeded")
	}
	until(t, ctx, "the log to say why", func(context.Context) error {
		if log := hung.Log(); !strings.Contains(log, "gives up its place") {
			return fmt.Errorf("the hung node's log:\n%s", log)
		}
		return nil
	})
	// A process cannot leave a frozen file system before the kernel lets it.
	thaw()
	short, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if code := ended(t, short, hung); code <= 0 {
		t.Errorf("the hung node ended with status %d", code)
	}

	restart(t, ctx, c, hung)
	own := dial(t, c, hung)
	for _, id := range []string{first.ID, during.ID, after.ID} {
		wait(t, ctx, own, id, "succeeded")
	}
}
