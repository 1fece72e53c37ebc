package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/cgroup"
)

// Sandbox is one living or ended attempt. Its methods are safe for concurrent
// use. One goroutine (watch) owns the fields of the second group from arm on.
type Sandbox struct {
	rt      *Runtime
	id      string
	limits  Limits
	started time.Time
	done    chan struct{} // closed when result is final

	uid     int // within the launcher's namespace
	group   *cgroup.Group
	conn    *os.File // to the init
	pidfd   *os.File // of the init
	streams []*stream
	result  Result

	stopTimers []func() bool // touched by arm, then by watch

	mu      sync.Mutex
	armed   bool        // open is over, pidfd may be used
	command *os.File    // pidfd of the command, once it runs; nil again at the end
	pending unix.Signal // sent when command comes; 0 is none
	why     EndReason   // of the first Kill or Stop
	ended   bool        // the init reported the command's end
	stopped *time.Timer
}

func newSandbox(r *Runtime, spec Spec) *Sandbox {
	return &Sandbox{rt: r, id: spec.ID, limits: spec.Limits, started: time.Now(), done: make(chan struct{})}
}

// open makes everything and hands the task over.
func (s *Sandbox) open(ctx context.Context, spec Spec, out Streams, task []byte) error {
	l, err := s.rt.launch()
	if err != nil {
		return err
	}
	var held []*os.File // ours until they are sent
	defer func() {
		for _, f := range held {
			f.Close()
		}
	}()
	req := request{Kind: kindSandbox, UID: s.uid, TmpBytes: spec.Limits.TmpBytes, Off: s.rt.off}
	mounts, err := s.openGrants(l, spec.Mounts, &req)
	held = append(held, mounts...)
	if err != nil {
		return err
	}
	procs, err := s.openGroup(spec.Limits)
	held = append(held, procs...)
	if err != nil {
		return err
	}
	req.Cgroups = len(procs)
	theirs, err := s.openConn()
	if err != nil {
		return err
	}
	held = append(held, theirs)
	fds := []int{int(theirs.Fd())}
	for _, list := range [][]*os.File{procs, mounts} {
		for _, f := range list {
			fds = append(fds, int(f.Fd()))
		}
	}
	pidfd, _, err := l.call(req, fds)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return fmt.Errorf("prepare the init's pidfd: %w", err)
	}
	s.pidfd = os.NewFile(uintptr(pidfd), "init")
	theirs.Close() // or the init's end would not be seen
	failed, err := s.awaitReady(ctx)
	if failed != nil {
		req.Kind, req.Step = kindExplain, int(failed.Step)
		return setupFailed(l, req, unix.Errno(failed.Errno))
	}
	if err != nil {
		return err
	}
	stdio, err := s.openStdio(spec.Stdin, out)
	held = append(held, stdio...)
	if err != nil {
		return err
	}
	std := make([]int, 3)
	for i, f := range stdio {
		std[i] = int(f.Fd())
	}
	if err := sendFDs(s.conn, task, std); err != nil {
		return fmt.Errorf("hand over the task: %w", err)
	}
	return nil
}

func (s *Sandbox) openGrants(l *launcherClient, mounts []Mount, req *request) ([]*os.File, error) {
	var files []*os.File
	for i, m := range mounts {
		owner := func(uid, gid uint32) (int, error) {
			fd, _, err := l.call(request{Kind: kindOwner, UID: s.uid, OwnerUID: uid, OwnerGID: gid}, nil)
			return fd, err
		}
		if s.rt.off&ctlGrants != 0 {
			m.writable = true
		}
		fd, dir, err := openGrant(m, fmt.Sprintf("Mounts[%d].Source", i), owner)
		if err != nil {
			return files, err
		}
		files = append(files, os.NewFile(uintptr(fd), m.Source))
		req.Mounts = append(req.Mounts, mountTarget{Target: m.Target, Dir: dir, Writable: m.Writable})
	}
	return files, nil
}

func (s *Sandbox) openGroup(lim Limits) ([]*os.File, error) {
	want := cgroup.Limits{MemoryBytes: lim.MemoryBytes, CPUMillis: lim.CPUMillis, PIDs: lim.PIDs + 1} // the init is one
	if s.rt.off&ctlCgroups != 0 {
		want = cgroup.Limits{}
	}
	g, err := s.rt.cgroups.Create(s.id, want)
	if err != nil {
		return nil, err
	}
	s.group = g
	return g.OpenProcs()
}

func (s *Sandbox) openConn() (theirs *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the init's socket: %w", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "init")
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return theirs, err
	}
	s.conn = os.NewFile(uintptr(pair[0]), "init")
	return theirs, nil
}

// awaitReady waits until policy is in force. A step that failed is returned.
func (s *Sandbox) awaitReady(ctx context.Context) (failed *report, err error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(startPatience)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	rep, fd, err := s.receive()
	if fd >= 0 {
		unix.Close(fd)
	}
	switch {
	case !stop():
		return nil, ctx.Err()
	case err != nil && s.group.Usage().OOMKills > 0:
		return nil, invalid("Limits.MemoryBytes", "%d bytes do not suffice to set the sandbox up", s.limits.MemoryBytes)
	case err != nil:
		return nil, fmt.Errorf("set the sandbox up: %w", err)
	case rep.Kind == reportSetup:
		return &rep, nil
	case rep.Kind != reportReady:
		return nil, fmt.Errorf("set the sandbox up: unexpected report %d", rep.Kind)
	}
	return nil, s.conn.SetReadDeadline(time.Time{})
}

func setupFailed(l *launcherClient, req request, e unix.Errno) error {
	step := fmt.Sprintf("step %d", req.Step)
	if _, a, err := l.call(req, nil); err == nil && a.Step != "" {
		step = a.Step
	}
	return &ErrCannotIsolate{
		Ability: "setup",
		Reason:  fmt.Sprintf("%s: %v", step, e),
		Remedy:  "nothing was run; check that no security module or outer container forbids this step",
	}
}

func (s *Sandbox) openStdio(stdin []byte, out Streams) ([]*os.File, error) {
	in, err := openStdin(stdin)
	if err != nil {
		return nil, err
	}
	files := []*os.File{in}
	host := s.rt.uidBase + s.uid
	for _, o := range []struct {
		name string
		w    io.Writer
	}{{"stdout", out.Stdout}, {"stderr", out.Stderr}} {
		if o.name == "stderr" && same(out.Stdout, out.Stderr) {
			dup, err := unix.FcntlInt(files[1].Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return files, fmt.Errorf("join stderr to stdout: %w", err)
			}
			files = append(files, os.NewFile(uintptr(dup), o.name))
			continue
		}
		st, f, err := openStream(o.name, o.w, host)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		s.streams = append(s.streams, st)
	}
	return files, nil
}

// receive returns the next report and the descriptor that came along, or -1.
func (s *Sandbox) receive() (report, int, error) {
	b := make([]byte, reportSize+1)
	n, fds, err := recvFDs(s.conn, b, make([]byte, unix.CmsgSpace(4)))
	if err != nil {
		return report{}, -1, err
	}
	fd := -1
	if len(fds) > 0 {
		fd = fds[0]
	}
	if n == 0 {
		return report{}, fd, errInitGone
	}
	rep, ok := decodeReport(b[:n])
	if !ok {
		return report{}, fd, fmt.Errorf("report of %d bytes, want %d", n, reportSize)
	}
	return rep, fd, nil
}

var errInitGone = errors.New("its init died")

// undo takes back a failed open; another may follow.
func (s *Sandbox) undo() {
	if s.pidfd != nil {
		_ = signalFD(s.pidfd, unix.SIGKILL, 0)
		_ = waitGone(s.pidfd)
	}
	for _, st := range s.streams {
		st.r.Close()
	}
	s.dispose()
	s.conn, s.pidfd, s.group, s.streams = nil, nil, nil, nil
}

// dispose removes what is left when every process is gone.
func (s *Sandbox) dispose() {
	for _, f := range []*os.File{s.conn, s.pidfd} {
		if f != nil {
			f.Close()
		}
	}
	if s.group != nil {
		if err := s.group.Remove(); err != nil {
			s.rt.log.Error("cgroup of an ended sandbox stays", "sandbox", s.id, "error", err)
		}
	}
}
