package sandbox

import (
	"encoding/binary"
	"fmt"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// control is a part of the isolation that a test of this package can switch
// off, to show that the test would notice. Nothing outside can.
type control uint32

const (
	ctlNet control = 1 << iota
	ctlReadOnly
	ctlCaps
	ctlNoNewPrivs
	ctlSeccomp
	ctlUser   // user ID of its own and nested user namespace
	ctlMask   // covers over parts of proc
	ctlNested // no user namespaces below
	ctlLandlock
	ctlCgroups // handled by the node, as is the next
	ctlGrants  // read-only grants
	ctlNoSuid  // grants without setuid bits and file capabilities
	ctlLimits  // resource limits
	ctlDump    // an init that nobody may look into
	ctlPID     // a pid namespace of its own
	ctlIPC     // an ipc namespace of its own
	ctlEnter   // being in its cgroups at all
	ctlTmp     // bounds of /tmp, /dev/shm and the scratch folder
	ctlFDs     // an init without the launcher's descriptors
	ctlNoDev   // grants without devices
	ctlLinks   // sources of grants without symbolic links; handled by the node, as is the next
	ctlCheck   // the check of a spec
	ctlHost    // a launcher that let go of the host's tree; this and the rest by the launcher
	ctlSelf    // a program that cannot be written to
)

// taskID is the user and group of a task inside.
const taskID = 1000

// Registers of the script.
const (
	rFile reg = 1 + iota
	rSock
	rUserSysctl
	rRuleset
)

const plain = unix.MS_NOSUID | unix.MS_NODEV

// write writes the script of one init: everything between clone3 and the wait
// for the task. The order matters in the places that say so. It returns the
// names of the steps.
func (l *launcher) write(req request, fds []int) ([]string, error) {
	s := newScript(l.im, req.Off, thenTask)
	s.ruleFD = ruleFD(fds)
	sock, streams, rest := fds[0], fds[1:1+numStreams], fds[1+numStreams:]
	cgroups, mounts := rest[:req.Cgroups], rest[req.Cgroups:]
	s.do("keep the socket", unix.SYS_DUP3, sock, initSock, unix.O_CLOEXEC)
	s.do("die with the launcher", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	s.cgroups(cgroups)
	s.signals(l.ignored)
	s.root(&l.base, req)
	for i, m := range req.Mounts {
		s.grant(m, baseStage, mounts[i])
	}
	s.pivot()
	if req.Network != NetworkNone {
		s.group = ctlNet
		s.loopback()
		s.group = 0
	}
	s.do("set hostname", unix.SYS_SETHOSTNAME, "sandbox", len("sandbox"))
	s.identity(req.UID, l.lastCap)
	s.group = ctlNoNewPrivs
	s.do("set no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	s.group = ctlLimits
	for _, r := range l.limits {
		v := binary.NativeEndian.AppendUint64(nil, r.value)
		s.do(fmt.Sprintf("set resource limit %d", r.resource), unix.SYS_PRLIMIT64, 0, r.resource, s.bytes(append(v, v...)), 0)
	}
	s.group = 0
	s.landlock(l.landlock, req)
	s.do("start a session", unix.SYS_SETSID)
	for i, fd := range streams { // in the place of the launcher's own
		s.do("take the command's streams", unix.SYS_DUP3, fd, i, 0)
	}
	s.group = ctlFDs
	s.do("close everything else", unix.SYS_CLOSE_RANGE, initSock+1, int(^uint32(0)), 0)
	s.group = 0
	s.seccomp(l.filter)
	return s.end()
}

// writeAttach writes the script of a process that adds grants to an init that
// waits already, and gives its scratch folders another size. No task has run in there: nobody can be in the way.
func (l *launcher) writeAttach(req request, fds []int) ([]string, error) {
	s := newScript(l.im, req.Off, thenExit)
	s.do("keep the socket", unix.SYS_DUP3, fds[0], initSock, unix.O_CLOEXEC)
	s.do("enter the sandbox's mounts", unix.SYS_SETNS, fds[1], unix.CLONE_NEWNS)
	if req.TmpBytes > 0 {
		s.scratch("resize ", "", unix.MS_REMOUNT, req.TmpBytes)
	}
	s.mount("make the root writable for mount points", "", "/", "", unix.MS_REMOUNT|unix.MS_BIND|plain, "")
	for i, m := range req.Mounts {
		s.grant(m, "", fds[2+i])
	}
	s.mount("make the root read-only", "", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|plain, "")
	return s.end()
}

// cgroups enters the groups first, so that all memory that follows is theirs,
// and hides the path above them.
func (s *script) cgroups(fds []int) {
	s.group = ctlEnter
	for _, fd := range fds {
		s.do("enter the cgroup", unix.SYS_WRITE, fd, "0", 1)
	}
	s.group = 0
	s.do("unshare the cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	// The first to go when the host itself runs out of memory.
	s.do("open oom_score_adj", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/thread-self/oom_score_adj", unix.O_WRONLY, 0).maybe().into(rFile)
	s.do("write oom_score_adj", unix.SYS_WRITE, rFile, "900", 3).maybe()
}

func (s *script) signals(ignored []int) {
	s.do("unblock all signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, s.bytes(make([]byte, 8)), 0, 8)
	for _, sig := range ignored {
		// struct sigaction of the kernel: handler (SIG_DFL is 0), flags, restorer, mask
		s.do("restore signal", unix.SYS_RT_SIGACTION, sig, s.bytes(make([]byte, 32)), 0, 8)
	}
}

func (s *script) mount(name, source, target, fstype string, flags int, data string) {
	s.do(name, unix.SYS_MOUNT, source, target, fstype, flags, data)
}

// root builds the new root in baseStage.
func (s *script) root(b *base, req request) {
	s.mount("mount the root", "tmpfs", baseStage, "tmpfs", plain, "size=1m,nr_inodes=2k,mode=755")
	for _, dir := range b.dirs {
		s.mkdir(dir)
		s.mount("bind "+dir, dir, baseStage+dir, "", unix.MS_BIND|unix.MS_REC, "")
	}
	for name, to := range b.links {
		s.do("link "+name, unix.SYS_SYMLINKAT, to, unix.AT_FDCWD, baseStage+name)
	}
	s.mkdir("/proc")
	s.mkdir("/tmp")
	// A proc of another pid namespace shows other processes, and the kernel
	// refuses one while only a masked proc is in sight: so it comes while the
	// launcher's whole one is.
	s.mount("mount proc", "proc", baseStage+"/proc", "proc", plain|unix.MS_NOEXEC, "hidepid=2")
	// Kept open: below the read-only bind the file could not be written.
	s.do("open the user sysctls", unix.SYS_OPENAT, unix.AT_FDCWD, baseStage+"/proc/sys/user", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0).into(rUserSysctl)
	s.group = ctlMask
	s.mount("bind /proc/sys", baseStage+"/proc/sys", baseStage+"/proc/sys", "", unix.MS_BIND, "")
	s.mount("make /proc/sys read-only", "", baseStage+"/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|plain|unix.MS_NOEXEC, "")
	for _, f := range b.masks {
		s.mount("mask "+f, baseStage+"/dev/null", baseStage+f, "", unix.MS_BIND, "")
	}
	for _, d := range b.voids {
		s.mount("mask "+d, baseEmpty, baseStage+d, "", unix.MS_BIND, "")
	}
	s.group = 0
	s.scratch("mount ", baseStage, 0, req.TmpBytes)
}

// scratch mounts or remounts what the command may fill. Both are charged to the
// attempt's memory, so its limit holds for their sum.
func (s *script) scratch(what, stage string, flags int, size int64) {
	options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=1777", size, min(max(size/4096, 64), 256<<10))
	if s.off&ctlTmp != 0 {
		options = "size=0,nr_inodes=0,mode=1777" // no bounds
	}
	s.mount(what+"/tmp", "tmpfs", stage+"/tmp", "tmpfs", flags|plain, options)
	s.mount(what+"/dev/shm", "tmpfs", stage+"/dev/shm", "tmpfs", flags|plain|unix.MS_NOEXEC, options)
}

func (s *script) mkdir(dir string) {
	s.do("make "+dir, unix.SYS_MKDIRAT, unix.AT_FDCWD, baseStage+dir, 0o755)
}

// grant attaches a mount that the node opened, already read-only where it must
// be, below the root at stage. No path of the host is looked up here: there is
// none.
func (s *script) grant(m mountTarget, stage string, fd int) {
	for i := 1; i < len(m.Target); i++ {
		if m.Target[i] == '/' {
			// /tmp exists, and grants may share parents.
			s.do("make parents of "+m.Target, unix.SYS_MKDIRAT, unix.AT_FDCWD, stage+m.Target[:i], 0o755).maybe()
		}
	}
	if m.Dir {
		s.do("make "+m.Target, unix.SYS_MKDIRAT, unix.AT_FDCWD, stage+m.Target, 0o755)
	} else {
		// Not open: a file open for writing keeps the root from becoming read-only.
		s.do("make "+m.Target, unix.SYS_MKNODAT, unix.AT_FDCWD, stage+m.Target, unix.S_IFREG|0o444, 0)
	}
	s.do("attach the grant at "+m.Target, unix.SYS_MOVE_MOUNT, fd, "", unix.AT_FDCWD, stage+m.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// pivot enters the new root and lets go of the launcher's.
func (s *script) pivot() {
	s.do("enter the root", unix.SYS_CHDIR, baseStage)
	s.do("pivot", unix.SYS_PIVOT_ROOT, ".", ".")
	s.group = ctlHost
	s.do("drop the old root", unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	s.group = 0
	s.do("go to the root", unix.SYS_CHDIR, "/")
	s.group = ctlReadOnly
	s.mount("make the root read-only", "", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|plain, "")
	s.group = 0
}

func (s *script) loopback() {
	ifreq := make([]byte, 40) // struct ifreq: name, then flags
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP|unix.IFF_RUNNING)
	s.do("open a socket for lo", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).into(rSock)
	s.do("bring lo up", unix.SYS_IOCTL, rSock, unix.SIOCSIFFLAGS, s.bytes(ifreq))
}

// identity gives up root of the launcher's namespace for a user of its own, and
// puts that user into a namespace where it is the only one and owns nothing:
// mounts, network and processes belong to the launcher's namespace.
func (s *script) identity(uid, lastCap int) {
	s.group = ctlUser
	s.do("set group", unix.SYS_SETRESGID, uid, uid, uid)
	s.do("set user", unix.SYS_SETRESUID, uid, uid, uid)
	// Files in /proc/self belong to root while a process is not dumpable.
	s.do("be dumpable for the maps", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1)
	s.do("unshare the user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	line := fmt.Sprintf("%d %d 1", taskID, uid)
	for _, f := range [][2]string{{"uid_map", line}, {"setgroups", "deny"}, {"gid_map", line}} {
		s.file("/proc/self/"+f[0], f[1])
	}
	s.group = ctlNested
	s.do("open max_user_namespaces", unix.SYS_OPENAT, rUserSysctl, "max_user_namespaces", unix.O_WRONLY|unix.O_CLOEXEC, 0).into(rFile)
	s.do("forbid user namespaces below", unix.SYS_WRITE, rFile, "0", 1)
	// A new user namespace starts with every capability and a full bounding set.
	s.dropBounding(lastCap)
	s.group = ctlCaps
	const bits = 0xef // NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, and the locks of all four
	s.do("lock securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits)
	s.do("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	s.do("drop capabilities", unix.SYS_CAPSET, s.bytes(unsafe.Slice((*byte)(unsafe.Pointer(&header)), unsafe.Sizeof(header))), s.bytes(make([]byte, 24)))
	s.group = ctlDump
	// The image holds the task's environment once it came.
	s.do("be undumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	s.group = 0
	// Changing the user cleared it.
	s.do("die with the launcher", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
}

func (s *script) dropBounding(lastCap int) {
	s.group = ctlCaps
	for c := range lastCap + 1 {
		s.do("empty the bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c)
	}
}

func (s *script) file(name, text string) {
	s.do("open "+name, unix.SYS_OPENAT, unix.AT_FDCWD, name, unix.O_WRONLY|unix.O_CLOEXEC, 0).into(rFile)
	s.do("write "+path.Base(name)+" "+strings.TrimSpace(text), unix.SYS_WRITE, rFile, text, len(text))
}

// seccomp comes last: from here on the filter binds the init too.
func (s *script) seccomp(filter []unix.SockFilter) {
	s.group = ctlSeccomp
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), len(filter)*int(unsafe.Sizeof(filter[0])))
	prog := binary.NativeEndian.AppendUint64(nil, uint64(len(filter)))
	prog = binary.NativeEndian.AppendUint64(prog, uint64(s.bytes(raw)))
	s.do("install the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, s.bytes(prog))
	s.group = 0
}
