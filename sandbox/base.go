package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// base is what the launcher's root holds for every sandbox to bind or repeat.
type base struct {
	at    string            // while it is built: a folder of the host, in our own mount namespace
	root  string            // before the paths of what is shown of the host; see class
	dirs  []string          // bound read-only, with what is mounted below
	links map[string]string // repeated, for example /bin -> usr/bin
	masks []string          // files of /proc to cover with /dev/null
	voids []string          // folders of /proc to cover with an empty one
}

// Folders of the launcher's root that no sandbox sees under these names.
const (
	baseStage = "/stage" // a new root is built here
	baseEmpty = "/empty"
)

const roFlags = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// buildBase assembles the base on a private tmpfs, pivots into it and drops the
// host's tree.
func buildBase(c class) (base, error) {
	b := base{root: c.root}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return b, fmt.Errorf("make mounts private: %w", err)
	}
	// Any folder that we do not need does as a mount point; the host does not see it.
	for _, dir := range []string{"/tmp", "/mnt", "/srv", "/media", "/opt"} {
		if st, err := os.Lstat(dir); err == nil && st.IsDir() {
			b.at = dir
			break
		}
	}
	if b.at == "" {
		return b, errors.New("build the base: there is neither /tmp nor /mnt, /srv, /media or /opt: make one of them")
	}
	if err := unix.Mount("tmpfs", b.at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=4m,nr_inodes=4k,mode=755"); err != nil {
		return b, fmt.Errorf("mount the base: %w", err)
	}
	for _, build := range []func(*base) error{systemDirs, etc, devices, emptyDirs, procfs} {
		if err := build(&b); err != nil {
			return b, err
		}
	}
	if err := unix.Chdir(b.at); err != nil {
		return b, fmt.Errorf("enter the base: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return b, fmt.Errorf("pivot into the base: %w", err)
	}
	if c.off&ctlHost == 0 {
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return b, fmt.Errorf("drop the host's tree: %w", err)
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return b, err
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: roFlags}); err != nil {
		return b, fmt.Errorf("make the base read-only: %w", err)
	}
	return b, nil
}

func systemDirs(b *base) error {
	b.links = map[string]string{}
	for _, dir := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		st, err := os.Lstat(b.root + dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("look at system folder: %w", err)
		case st.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(b.root + dir)
			if err != nil {
				return fmt.Errorf("read system link: %w", err)
			}
			b.links[dir] = to
		case st.IsDir():
			if err := os.Mkdir(b.at+dir, 0o755); err != nil {
				return err
			}
			if err := bindReadOnly(b.root+dir, b.at+dir); err != nil {
				return err
			}
			b.dirs = append(b.dirs, dir)
		}
	}
	return nil
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, to, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: roFlags}); err != nil {
		return fmt.Errorf("make %s read-only: %w", from, err)
	}
	return nil
}

// etcFiles is all of /etc that is made up. There is no resolv.conf: there is no
// network.
var etcFiles = map[string]string{
	"passwd":        "root:x:0:0:root:/:/usr/sbin/nologin\ntask:x:1000:1000:task:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
	"group":         "root:x:0:\ntask:x:1000:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1 localhost sandbox\n::1 localhost\n",
	"hostname":      "sandbox\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}

// etcShared is taken from the host: what programs there need to find their
// libraries and each other.
var etcShared = []string{"ld.so.cache", "alternatives"}

func etc(b *base) error {
	dir := b.at + "/etc"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, text := range etcFiles {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o444); err != nil {
			return err
		}
	}
	for _, name := range etcShared {
		st, err := os.Stat(b.root + "/etc/" + name)
		if err != nil {
			continue // not every distribution has it
		}
		to := filepath.Join(dir, name)
		if st.IsDir() {
			err = os.Mkdir(to, 0o755)
		} else {
			err = os.WriteFile(to, nil, 0o444)
		}
		if err != nil {
			return err
		}
		if err := bindReadOnly(b.root+"/etc/"+name, to); err != nil {
			return err
		}
	}
	for _, pattern := range etcCopied {
		found, err := filepath.Glob(b.root + "/etc/" + pattern)
		if err != nil {
			return err
		}
		for _, from := range found {
			if err := copySmall(from, filepath.Join(dir, filepath.Base(from))); err != nil {
				return err
			}
		}
	}
	b.dirs = append(b.dirs, "/etc")
	return selfBind(dir)
}

// selfBind makes a folder of the base a read-only mount of its own, so that a
// sandbox can bind it as it is.
func selfBind(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return fmt.Errorf("make %s read-only: %w", dir, err)
	}
	return nil
}

func devices(b *base) error {
	dir := b.at + "/dev"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind device %s: %w", name, err)
		}
		// Writing to a device does not write to its file system.
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}
		if err := unix.MountSetattr(unix.AT_FDCWD, to, 0, attr); err != nil {
			return fmt.Errorf("make device %s read-only: %w", name, err)
		}
	}
	if err := os.Mkdir(dir+"/shm", 0o755); err != nil {
		return err
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	b.dirs = append(b.dirs, "/dev")
	return selfBind(dir)
}

func emptyDirs(b *base) error {
	for _, dir := range []string{baseStage, baseEmpty, "/proc"} {
		if err := os.Mkdir(b.at+dir, 0o555); err != nil {
			return err
		}
	}
	return nil
}

// procfs mounts a whole proc: the kernel lets a sandbox mount its own only
// while an unmasked one is in sight.
func procfs(b *base) error {
	if err := unix.Mount("proc", b.at+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount proc (a container with a masked /proc forbids it: run it with an unmasked one): %w", err)
	}
	for _, f := range []string{
		"kcore", "keys", "key-users", "kmsg", "latency_stats", "timer_list", "timer_stats", "sched_debug", "sysrq-trigger", "cmdline",
		"interrupts",                // when somebody types, and what arrives
		"sys/kernel/random/boot_id", // two tasks would know that they share a machine
	} {
		if _, err := os.Lstat(b.at + "/proc/" + f); err == nil {
			b.masks = append(b.masks, "/proc/"+f)
		}
	}
	for _, d := range []string{"acpi", "asound", "bus", "driver", "firmware", "fs", "irq", "pressure", "scsi"} {
		if _, err := os.Lstat(b.at + "/proc/" + d); err == nil {
			b.voids = append(b.voids, "/proc/"+d)
		}
	}
	return nil
}
