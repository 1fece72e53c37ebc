package sandbox

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// Landlock is the second wall behind the read-only mounts: even on a mount that
// is writable by mistake, the command may change files only below /tmp,
// /dev/shm and its writable grants, and none of proc. It handles no reading and no execution
// (mounts decide what is there), and the network in one class alone: its rules
// would deny the loopback of the sandbox's own network namespace.

// landlockABI returns the kernel's version of the interface, 0 for none.
func landlockABI() int {
	v, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0
	}
	return int(v)
}

const (
	changeFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	changeTree = changeFile |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	// The folder of a rule is put at a number of our own, which must be in the
	// rule before there is a descriptor: the last that fits into the table of
	// descriptors as it is at first, where few are in use, else one above all that
	// a script can hold (64 grants, a few cgroups) and below the usual limit of 1024.
	fewRuleFD  = 63
	manyRuleFD = 900
	// scriptFDs is more than a script opens by itself.
	scriptFDs = 24
)

// ruleFD is where a script that was given these descriptors puts its folders.
// New ones get the lowest free number, so that those given tell how many are in use.
func ruleFD(given []int) int {
	if slices.Max(given)+scriptFDs < fewRuleFD {
		return fewRuleFD
	}
	return manyRuleFD
}

// landlockRights returns the rights of this ABI that concern files and trees.
func landlockRights(abi int) (file, tree uint64) {
	file, tree = changeFile, changeTree
	if abi >= 2 {
		tree |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		file |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		file |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return file, tree | file
}

// landlock comes when the root stands, and after no_new_privs.
func (s *script) landlock(abi int, req request) {
	if abi == 0 {
		return
	}
	s.group = ctlLandlock
	defer func() { s.group = 0 }()
	file, tree := landlockRights(abi)
	attr := binary.NativeEndian.AppendUint64(nil, tree)
	attr = binary.NativeEndian.AppendUint64(attr, req.Network.deniedNetwork(abi))
	scoped := uint64(0)
	if abi >= 6 {
		scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	attr = binary.NativeEndian.AppendUint64(attr, scoped)
	s.do("make the Landlock rules", unix.SYS_LANDLOCK_CREATE_RULESET, s.bytes(attr), len(attr), 0).into(rRuleset)
	s.landlockAllow("/tmp", tree)
	s.landlockAllow("/dev/shm", tree)
	s.landlockAllow("/dev", file)
	// Not /proc: what a process may write about itself there it can do without, and
	// oom_score_adj it must not, or it lives on while the machine's own processes are
	// killed for memory. Paths like /dev/stdout only lead through it.
	for _, m := range req.Mounts {
		switch {
		case m.Writable && m.Dir:
			s.landlockAllow(m.Target, tree)
		case m.Writable:
			s.landlockAllow(m.Target, file)
		}
	}
	s.do("enforce the Landlock rules", unix.SYS_LANDLOCK_RESTRICT_SELF, rRuleset, 0)
}

func (s *script) landlockAllow(path string, rights uint64) {
	rule := binary.NativeEndian.AppendUint64(nil, rights)
	rule = binary.NativeEndian.AppendUint32(rule, uint32(s.ruleFD))
	s.do("open "+path, unix.SYS_OPENAT, unix.AT_FDCWD, path, unix.O_PATH|unix.O_CLOEXEC, 0).into(rFile)
	s.do("place "+path, unix.SYS_DUP3, rFile, s.ruleFD, unix.O_CLOEXEC)
	s.do("allow changes in "+path, unix.SYS_LANDLOCK_ADD_RULE, rRuleset, unix.LANDLOCK_RULE_PATH_BENEATH, s.bytes(rule), 0)
}
