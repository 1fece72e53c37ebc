package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a mounted ext4 in a file.
type Disk struct {
	Mount string

	image  string
	device string
	frozen *os.File // the root folder while writes hang
	dead   bool     // its power has failed
}

// New makes a disk of some MiB and mounts it on a folder, which it makes.
func New(ctx context.Context, mount string, mib int) (*Disk, error) {
	d := &Disk{Mount: mount, image: mount + ".img"}
	if err := os.MkdirAll(mount, 0o700); err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	f, err := os.OpenFile(d.image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	if err := errors.Join(f.Truncate(int64(mib)<<20), f.Close()); err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	// Nothing is kept back for root, and the journal is small.
	if _, err := command(ctx, "mkfs.ext4", "-q", "-m", "0", "-J", "size=4", d.image); err != nil {
		return nil, err
	}
	return d, d.mount(ctx)
}

func command(ctx context.Context, name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil { // as on a PATH without the system's own folders
		path = filepath.Join("/usr/sbin", name)
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return text, nil
}

func (d *Disk) mount(ctx context.Context) error {
	device, err := command(ctx, "losetup", "--find", "--show", d.image)
	if err != nil {
		return err
	}
	// The device goes when its last user does.
	d.device = device
	if _, err := command(ctx, "mount", device, d.Mount); err != nil {
		return errors.Join(err, d.detach())
	}
	d.dead = false
	return d.detach()
}

// detach lets the loop device go when the file system does.
func (d *Disk) detach() error {
	f, err := os.Open(d.device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
		return fmt.Errorf("let %s go with its last user: %w", d.device, err)
	}
	return nil
}

// fillName is the file that takes all room.
const fillName = "chaos-fill"

// Fill leaves no free block.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(filepath.Join(d.Mount, fillName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill %s: %w", d.Mount, err)
	}
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			break
		}
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fill %s: %w", d.Mount, err)
	}
	return nil
}

// Free gives the room back.
func (d *Disk) Free() error {
	err := os.Remove(filepath.Join(d.Mount, fillName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Room is how many bytes are free.
func (d *Disk) Room() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.Mount, &st); err != nil {
		return 0, fmt.Errorf("look at %s: %w", d.Mount, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// From linux/fs.h and ext4.h.
const (
	ioctlFreeze   = 0xc0045877
	ioctlThaw     = 0xc0045878
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

// Freeze has every write wait until Thaw.
func (d *Disk) Freeze() error {
	dir, err := os.Open(d.Mount)
	if err != nil {
		return fmt.Errorf("freeze %s: %w", d.Mount, err)
	}
	if err := unix.IoctlSetInt(int(dir.Fd()), ioctlFreeze, 0); err != nil {
		return errors.Join(fmt.Errorf("freeze %s: %w", d.Mount, err), dir.Close())
	}
	d.frozen = dir
	return nil
}

// Thaw lets writes go on. Without a Freeze it does nothing.
func (d *Disk) Thaw() error {
	if d.frozen == nil {
		return nil
	}
	err := errors.Join(unix.IoctlSetInt(int(d.frozen.Fd()), ioctlThaw, 0), d.frozen.Close())
	d.frozen = nil
	if err != nil {
		return fmt.Errorf("thaw %s: %w", d.Mount, err)
	}
	return nil
}

// ThawOf lets writes go on that wait on a file system which only a process of
// another mount namespace still sees: what a killed tester had frozen there
// could not even end.
func ThawOf(pid int, mount string) error {
	dir, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "root", mount))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.IoctlSetInt(int(dir.Fd()), ioctlThaw, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil // it was not frozen
	}
	return err
}

// CutPower ends the file system at once: what was not synced is lost, and
// every later write fails. The node's process must die with it.
func (d *Disk) CutPower() error {
	dir, err := os.Open(d.Mount)
	if err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.Mount, err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), ioctlShutdown, noLogFlush); err != nil {
		return fmt.Errorf("cut the power of %s: %w", d.Mount, err)
	}
	d.dead = true
	return nil
}

// Dead reports whether writes fail for want of power, by trying one.
func (d *Disk) Dead() bool {
	f, err := os.OpenFile(filepath.Join(d.Mount, "chaos-try"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	return errors.Is(err, syscall.EIO) || errors.Is(err, unix.EUCLEAN)
}

// Repower mounts the disk again as it was when the power failed. Processes
// that use it must have ended.
func (d *Disk) Repower(ctx context.Context) error {
	if !d.dead {
		return nil
	}
	if err := d.unmount(ctx); err != nil {
		return err
	}
	return d.mount(ctx)
}

// unmount takes the file system away and waits until its device is free: a
// namespace that still holds it would hand the dead one out again.
func (d *Disk) unmount(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for mounted := true; ; {
		if mounted {
			last = unix.Unmount(d.Mount, 0)
			mounted = last != nil && !errors.Is(last, unix.EINVAL)
		}
		if !mounted {
			if last = d.busy(); last == nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("unmount %s: %w; last: %w", d.Mount, ctx.Err(), last)
		}
	}
}

// busy is an error as long as the loop device has its file.
func (d *Disk) busy() error {
	b, err := os.ReadFile("/sys/block/" + filepath.Base(d.device) + "/loop/backing_file")
	if err == nil && strings.TrimSpace(string(b)) == d.image {
		return fmt.Errorf("something still uses %s", d.device)
	}
	return nil
}

// Close unmounts the disk and removes it.
func (d *Disk) Close(ctx context.Context) error {
	return errors.Join(d.Thaw(), d.unmount(ctx), os.Remove(d.image))
}
