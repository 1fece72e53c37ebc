package sandbox

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// minScratch is the least size of a scratch folder: a few pages of files.
const minScratch = 16 << 10

func (s Spec) validScratch() error {
	if s.Scratch == nil {
		return nil
	}
	if err := validTarget("Scratch.Target", s.Scratch.Target, s.Mounts); err != nil {
		return err
	}
	if b := s.Scratch.Bytes; b < minScratch || b > maxLimit {
		return invalid("Scratch.Bytes", "%d, want %d to %d", b, minScratch, int64(maxLimit))
	}
	// One inode is the folder's own.
	if n := s.Scratch.Inodes; n < 2 || n > maxLimit {
		return invalid("Scratch.Inodes", "%d, want 2 or more", n)
	}
	return nil
}

// openScratch makes the folder as a detached mount, which an init attaches as
// it does a grant. A tmpfs is what bounds bytes and inodes everywhere: quotas
// of disks need file systems made for them.
func openScratch(s *Scratch, user int) (*os.File, error) {
	id := strconv.Itoa(user)
	return newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, [][2]string{
		{"size", strconv.FormatInt(s.Bytes, 10)}, {"nr_inodes", strconv.FormatInt(s.Inodes, 10)},
		{"mode", "0700"}, {"uid", id}, {"gid", id},
	})
}

// newMount makes a file system of its own that is mounted nowhere.
func newMount(kind string, attrs int, options [][2]string) (*os.File, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a %s: %w", kind, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, fmt.Errorf("make a %s with %s=%s: %w", kind, o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("make a %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, fmt.Errorf("mount a %s: %w", kind, err)
	}
	return os.NewFile(uintptr(fd), kind), nil
}

// full says whether nothing more fits into the file system behind f.
func full(f *os.File) bool {
	var st unix.Statfs_t
	if f == nil || unix.Fstatfs(int(f.Fd()), &st) != nil {
		return false
	}
	return st.Bavail == 0 || st.Ffree == 0
}
