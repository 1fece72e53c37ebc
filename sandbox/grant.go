package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openGrant opens the source of a grant as a detached mount of its own: no
// later change of the path reaches it. The path is walked without following any
// symbolic link, so that nobody who may write to a folder on the way, for
// example another task with a writable grant, can point it elsewhere.
//
// owner makes a user namespace for an idmapped mount; it is called only when
// one is needed.
func openGrant(m Mount, field string, owner func(uid, gid uint32) (int, error)) (fd int, dir bool, err error) {
	if m.self {
		fd, err := grantSelf()
		return fd, false, err
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	if m.off&ctlLinks != 0 {
		how.Resolve = 0
	}
	src, err := unix.Openat2(unix.AT_FDCWD, m.Source, how)
	if errors.Is(err, unix.ELOOP) {
		return -1, false, invalid(field, "%s has a symbolic link in it: give the path that it leads to", m.Source)
	}
	if err != nil {
		return -1, false, invalid(field, "open %s: %v", m.Source, err)
	}
	defer unix.Close(src)
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return -1, false, fmt.Errorf("look at grant %s: %w", m.Source, err)
	}
	if err := grantable(src, st, m, field); err != nil {
		return -1, false, err
	}
	tree, err := unix.OpenTree(src, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, false, fmt.Errorf("clone a mount of grant %s: %w", m.Source, err)
	}
	defer func() {
		if err != nil {
			unix.Close(tree)
		}
	}()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if m.off&ctlNoSuid != 0 {
		attr.Attr_set &^= unix.MOUNT_ATTR_NOSUID
	}
	if m.off&ctlNoDev != 0 {
		attr.Attr_set &^= unix.MOUNT_ATTR_NODEV
	}
	if !m.Writable && m.off&ctlGrants == 0 {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, false, fmt.Errorf("restrict the mount of grant %s: %w", m.Source, err)
	}
	if st.Uid != 0 && st.Gid != 0 {
		err := mapOwner(tree, st, owner)
		if err != nil && m.Writable {
			return -1, false, invalid(field, "%s: its file system cannot map owners (%v): grant it read-only, or move it to ext4, xfs, btrfs or (from Linux 6.3) tmpfs", m.Source, err)
		}
	}
	return tree, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// grantSelf is openGrant for this program.
func grantSelf() (int, error) {
	f, err := openSelf(true)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err == nil {
		return -1, &ErrCannotIsolate{Ability: "proof", Reason: "others may not execute this program, so it cannot try to get out of a sandbox",
			Remedy: "chmod o+rx the program's file"}
	}
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// mapOwner makes the owner of the source the task's user, on this mount alone.
func mapOwner(tree int, st unix.Stat_t, owner func(uid, gid uint32) (int, error)) error {
	ns, err := owner(st.Uid, st.Gid)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// kernelFS are file systems that are windows into the kernel. The task would
// see the host's processes, devices or settings through them.
var kernelFS = map[int64]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.CGROUP_SUPER_MAGIC: "cgroup",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs",
	unix.BPF_FS_MAGIC: "bpf", unix.SECURITYFS_MAGIC: "securityfs", unix.DEVPTS_SUPER_MAGIC: "devpts",
	unix.EFIVARFS_MAGIC: "efivarfs", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.NSFS_MAGIC: "nsfs", unix.SELINUX_MAGIC: "selinuxfs",
}

func grantable(src int, st unix.Stat_t, m Mount, field string) error {
	if t := st.Mode & unix.S_IFMT; t != unix.S_IFDIR && t != unix.S_IFREG {
		return invalid(field, "%s is neither a file nor a folder", m.Source)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(src, &fs); err != nil {
		return fmt.Errorf("look at the file system of grant %s: %w", m.Source, err)
	}
	if name, ok := kernelFS[int64(fs.Type)]; ok {
		return invalid(field, "%s is on %s, a window into the kernel", m.Source, name)
	}
	// devtmpfs says that it is a tmpfs.
	if within(m.Source, "/dev") {
		return invalid(field, "%s: devices cannot be granted as paths", m.Source)
	}
	if m.Writable && (st.Uid == 0 || st.Gid == 0) {
		return invalid(field, "%s belongs to user %d and group %d: a writable grant must belong to neither user 0 nor group 0 (chown it to an ordinary user and group)", m.Source, st.Uid, st.Gid)
	}
	return nil
}
