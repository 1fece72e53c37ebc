package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/seccomp"
)

var errNodeGone = errors.New("the node closed the launcher's socket")

// launcher is a small process between the node and the sandboxes. A fork copies
// the forking process's page tables, which takes 15 ms from a node with a heap
// of 300 MiB: so the node never forks, and the launcher has next to no heap.
//
// It is root of its own user namespace and nobody on the host, PID 1 of its own
// pid namespace (its death is the death of every sandbox), and its root file
// system is the base that buildBase made: the host's tree is gone.
//
// One thread serves one request at a time.
type launcher struct {
	im       *image
	class    class
	base     base
	filter   []unix.SockFilter
	lastCap  int
	landlock int   // ABI version, 0 is none
	ignored  []int // signals that the node's parent had ignored, for example by nohup
	limits   []rlimit

	until    int64 // the sandboxes' deadline, ns of CLOCK_BOOTTIME; 0 = none
	buf, oob []byte
}

type rlimit struct {
	resource int
	value    uint64
}

func (l *launcher) prepare() error {
	var err error
	if l.im, err = newImage(); err != nil {
		return err
	}
	policy, err := seccomp.Task()
	if err != nil {
		return err
	}
	if l.filter, err = seccomp.Compile(policy); err != nil {
		return err
	}
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		l.lastCap, err = strconv.Atoi(strings.TrimSpace(string(last)))
	}
	if err != nil {
		return fmt.Errorf("find the kernel's last capability: %w", err)
	}
	if !told(abilityTime) {
		if err := ownClock(); err != nil {
			return err
		}
	}
	if l.base, err = buildBase(l.class); err != nil {
		return err
	}
	l.limits = taskLimits()
	if l.class.off&ctlLimits == 0 {
		if err := limitWatches(); err != nil {
			return err
		}
	}
	if !told(abilityLandlock) {
		if l.landlock = landlockABI(); l.landlock == 0 {
			return errors.New("the kernel offers no Landlock")
		}
	}
	for s := 1; s < 65; s++ {
		if signal.Ignored(unix.Signal(s)) {
			l.ignored = append(l.ignored, s)
		}
	}
	// Ignored, so that the kernel reaps dead inits by itself. They get the
	// default back in their script.
	signal.Ignore(unix.SIGCHLD)
	l.ignored = append(l.ignored, int(unix.SIGCHLD))
	return shedMemory(l.im)
}

// taskFiles is how many descriptors a process of a task may have.
const taskFiles = 4096

// taskLimits are resource limits below those of the cgroup: for what cgroups do
// not count. Hard limits are only ever lowered; raising needs a capability.
func taskLimits() []rlimit {
	want := []rlimit{
		{unix.RLIMIT_NOFILE, taskFiles},
		{unix.RLIMIT_MEMLOCK, 64 << 10},
		// All sandboxes together count against the host's root here. Landlock lets
		// nobody write to such a queue anyway.
		{unix.RLIMIT_MSGQUEUE, 0},
		{unix.RLIMIT_SIGPENDING, 1024},
		{unix.RLIMIT_STACK, 8 << 20},
		{unix.RLIMIT_RTPRIO, 0},
		{unix.RLIMIT_NICE, 0},
		// At 1, and only at 1, the kernel starts no core handler: with 0 it
		// would still pipe the core into the host's.
		{unix.RLIMIT_CORE, 1},
	}
	out := want[:0]
	for _, w := range want {
		var have unix.Rlimit
		if unix.Getrlimit(w.resource, &have) == nil {
			w.value = min(w.value, have.Max)
			out = append(out, w)
		}
	}
	return out
}

// serve answers one request.
func (l *launcher) serve() error {
	if err := l.armDeadline(); err != nil {
		return err
	}
	n, oobn, flags, _, err := unix.Recvmsg(launcherSock, l.buf, l.oob, unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) { // a signal, or the deadline
		return nil
	}
	if err != nil || n == 0 {
		return errNodeGone
	}
	fds := rights(l.oob[:oobn])
	defer closeAll(fds)
	var req request
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return l.answer(answer{Err: "request was cut short"}, -1)
	}
	if err := json.Unmarshal(l.buf[:n], &req); err != nil {
		return l.answer(answer{Err: "bad request: " + err.Error()}, -1)
	}
	if req.Explain {
		name, err := l.explain(req)
		if err != nil {
			name = err.Error()
		}
		return l.answer(answer{Step: name}, -1)
	}
	fd := -1
	switch req.Kind {
	case kindSandbox:
		fd, err = l.start(req, fds)
	case kindAttach:
		err = l.attach(req, fds)
	case kindHold:
		l.until = req.Until
	case kindOwner:
		fd, err = l.ownerNamespace(req)
	default:
		err = fmt.Errorf("unknown request %q", req.Kind)
	}
	if err != nil {
		return l.answer(answer{Err: err.Error()}, -1)
	}
	if fd >= 0 {
		defer unix.Close(fd)
	}
	return l.answer(answer{}, fd)
}

func (l *launcher) answer(a answer, fd int) error {
	b, err := encodeJSON(a)
	if err != nil {
		return err
	}
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(launcherSock, b, oob, nil, unix.MSG_NOSIGNAL); err != nil {
		return errNodeGone
	}
	return nil
}

// offNamespaces are those that a test can do without.
var offNamespaces = map[uint64]control{unix.CLONE_NEWNET: ctlNet, unix.CLONE_NEWPID: ctlPID, unix.CLONE_NEWIPC: ctlIPC}

// start forks an init and returns its pidfd.
func (l *launcher) start(req request, fds []int) (int, error) {
	if len(fds) != 1+numStreams+req.Cgroups+len(req.Mounts) || req.UID <= 0 {
		return -1, fmt.Errorf("request with %d descriptors and user %d does not fit", len(fds), req.UID)
	}
	if _, err := l.write(req, fds); err != nil {
		return -1, err
	}
	flags := uint64(unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET)
	for ns, ctl := range offNamespaces {
		if req.Off&ctl != 0 {
			flags &^= ns
		}
	}
	_, pidfd, err := l.clone(flags)
	return pidfd, err
}

// attach forks a process that adds grants to a waiting init's root. Its own
// report, on the first descriptor, says how that went.
func (l *launcher) attach(req request, fds []int) error {
	if len(fds) != 2+len(req.Mounts) {
		return fmt.Errorf("request with %d descriptors does not fit", len(fds))
	}
	if _, err := l.writeAttach(req, fds); err != nil {
		return err
	}
	_, pidfd, err := l.clone(0)
	if err == nil {
		unix.Close(pidfd)
	}
	return err
}

// explain names a step of the script that a request leads to: the report of an
// init has only its number.
func (l *launcher) explain(req request) (string, error) {
	write, fds := l.write, 1+numStreams+req.Cgroups+len(req.Mounts)
	if req.Kind == kindAttach {
		write, fds = l.writeAttach, 2+len(req.Mounts)
	}
	names, err := write(req, make([]int, fds))
	if err == nil && (req.Step < 0 || req.Step >= len(names)) {
		err = fmt.Errorf("step %d of %d", req.Step, len(names))
	}
	if err != nil {
		return "", err
	}
	return names[req.Step], nil
}

func (l *launcher) clone(flags uint64) (pid, pidfd int, err error) {
	pid, e := forkInit(l.im, flags)
	if e != 0 {
		return 0, -1, fmt.Errorf("clone3 into new namespaces: %w", e)
	}
	return pid, int(l.im.pidfd), nil
}

// ownerNamespace makes a user namespace in which the on-disk owner of a grant
// is the attempt's user. The kernel takes the mapping of an idmapped mount from
// such a namespace.
func (l *launcher) ownerNamespace(req request) (int, error) {
	if req.OwnerUID == 0 || req.OwnerGID == 0 || req.UID <= 0 {
		return -1, errors.New("root's files cannot be mapped")
	}
	if _, err := newScript(l.im, 0, thenHold).end(); err != nil { // no steps: the child waits
		return -1, err
	}
	pid, pidfd, err := l.clone(unix.CLONE_NEWUSER)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	defer func() { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) }()
	proc := "/proc/" + strconv.Itoa(pid)
	for file, owner := range map[string]uint32{"/uid_map": req.OwnerUID, "/gid_map": req.OwnerGID} {
		line := fmt.Sprintf("%d %d 1\n", owner, req.UID)
		if err := os.WriteFile(proc+file, []byte(line), 0); err != nil {
			return -1, fmt.Errorf("map the grant's owner: %w", err)
		}
	}
	fd, err := unix.Open(proc+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the user namespace of a grant: %w", err)
	}
	return fd, nil
}

// rights returns the descriptors of a control message.
func rights(oob []byte) []int {
	var fds []int
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
