package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/sandbox/cgroup"
)

// cell is an init with its policy in force that waits for a task, and all that
// belongs to it. It is used once: for one attempt, or for none.
type cell struct {
	rt    *Runtime
	l     *launcherClient
	uid   int // within the launcher's namespace; 0 is none
	group *cgroup.Group
	tmp   int64    // size of /tmp, bytes
	conn  *os.File // to the init
	pidfd *os.File // of the init

	command *os.File    // pidfd of the command's process
	stdin   *os.File    // the command has it too
	outputs [2]*os.File // our ends of stdout and stderr
	inputs  [2]*os.File // the command's ends

	scratch *os.File // the folder's mount, to see at the end whether it is full
}

// grants is what a cell shows beside its own root.
type grants struct {
	mounts  []Mount
	scratch *Scratch
	secrets []Secret
	network Network
}

func (s Spec) grants() grants { return grants{s.Mounts, s.Scratch, s.Secrets, s.Network} }

// none says whether there is nothing to attach.
func (g grants) none() bool { return len(g.mounts) == 0 && g.scratch == nil && len(g.secrets) == 0 }

// newCell makes one; on error nothing is left.
func (r *Runtime) newCell(ctx context.Context, name string, lim Limits, g grants) (*cell, error) {
	c := &cell{rt: r, tmp: lim.TmpBytes}
	err := c.open(ctx, name, lim, g)
	if err != nil {
		c.dispose()
		return nil, err
	}
	return c, nil
}

func (c *cell) open(ctx context.Context, name string, lim Limits, g grants) error {
	var err error
	if c.uid, err = c.rt.takeUser(); err != nil {
		return err
	}
	if c.l, err = c.rt.launch(); err != nil {
		return err
	}
	req := request{Kind: kindSandbox, UID: c.uid, TmpBytes: lim.TmpBytes, Off: c.rt.off}
	granted, targets, err := c.openGrants(g)
	defer closeFiles(granted)
	if err != nil {
		return err
	}
	req.Mounts, req.Network = targets, g.network
	if c.group, err = c.rt.cgroups.Create(name, lim.anyIO()); err != nil {
		return err
	}
	if err := c.limit(lim); err != nil {
		return err
	}
	procs, err := c.group.OpenProcs()
	defer closeFiles(procs)
	if err != nil {
		return err
	}
	req.Cgroups = len(procs)
	streams, err := c.openStreams()
	if err != nil {
		return err
	}
	conn, pidfd, err := c.ask(ctx, req, slices.Concat(streams, procs, granted))
	c.conn = conn
	if pidfd >= 0 {
		c.pidfd = os.NewFile(uintptr(pidfd), "init")
	}
	if err != nil && c.group.Usage().OOMKills > 0 {
		return invalid("Limits.MemoryBytes", "%d bytes do not suffice to set the sandbox up", lim.MemoryBytes)
	}
	return err
}

// ask sends a request for a process that runs a script, and waits until it says
// that all steps are done. It returns the socket to the process, which may come
// along with an error, and the descriptor that the launcher answered with, or -1.
func (c *cell) ask(ctx context.Context, req request, files []*os.File) (*os.File, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make the init's socket: %w", err)
	}
	defer func() {
		if pair[1] >= 0 {
			unix.Close(pair[1])
		}
	}()
	// A task message may be larger than the default allows.
	_ = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*msgSize)
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, -1, err
	}
	conn := os.NewFile(uintptr(pair[0]), "init")
	fds := []int{pair[1]}
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	fd, _, err := c.l.call(req, fds)
	if err != nil {
		return conn, fd, err
	}
	if fd >= 0 {
		if err := unix.SetNonblock(fd, true); err != nil {
			return conn, fd, fmt.Errorf("prepare the init's pidfd: %w", err)
		}
	}
	unix.Close(pair[1]) // or the other end's death would not be seen
	pair[1] = -1
	return conn, fd, c.awaitReady(ctx, conn, req)
}

// awaitReady waits until every step of the script is done.
func (c *cell) awaitReady(ctx context.Context, conn *os.File, req request) error {
	if err := conn.SetReadDeadline(time.Now().Add(startPatience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	err := c.readReady(conn, req)
	if !stop() {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return conn.SetReadDeadline(time.Time{})
}

func (c *cell) readReady(conn *os.File, req request) error {
	// The init and the command's process report side by side.
	ready, complete := false, req.Kind != kindSandbox
	for !ready || !complete {
		rep, fd, err := receive(conn)
		if err == nil && rep.Kind == reportCommand && fd >= 0 && c.command == nil {
			c.command, complete = os.NewFile(uintptr(fd), "command"), true
			continue
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		switch {
		case err != nil:
			return fmt.Errorf("set the sandbox up: %w", err)
		case rep.Kind == reportSetup:
			req.Step = int(rep.Step)
			return c.explain(req, unix.Errno(rep.Errno))
		case rep.Kind == reportExecFailed:
			return fmt.Errorf("set the sandbox up: %s", startFailure(rep))
		case rep.Kind != reportReady:
			return fmt.Errorf("set the sandbox up: unexpected report %d", rep.Kind)
		}
		ready = true
	}
	return nil
}

// explain makes the error for a step that failed.
func (c *cell) explain(req request, e unix.Errno) error {
	step := fmt.Sprintf("step %d", req.Step)
	req.Explain = true
	if _, a, err := c.l.call(req, nil); err == nil && a.Step != "" {
		step = a.Step
	}
	return &ErrCannotIsolate{
		Ability: "setup",
		Reason:  fmt.Sprintf("%s: %v", step, e),
		Remedy:  c.rt.host.remedySetup(),
	}
}

func (c *cell) openGrants(g grants) (files []*os.File, targets []mountTarget, err error) {
	owner := func(uid, gid uint32) (int, error) {
		fd, _, err := c.l.call(request{Kind: kindOwner, UID: c.uid, OwnerUID: uid, OwnerGID: gid}, nil)
		return fd, err
	}
	for i, m := range g.mounts {
		m.off = c.rt.off
		fd, dir, err := openGrant(m, fmt.Sprintf("Mounts[%d].Source", i), owner)
		if err != nil {
			return files, nil, err
		}
		files = append(files, os.NewFile(uintptr(fd), m.Source))
		targets = append(targets, mountTarget{Target: m.Target, Dir: dir, Writable: m.Writable})
	}
	if len(g.secrets) > 0 {
		f, err := openSecrets(g.secrets, c.rt.uidBase+c.uid)
		if err != nil {
			return files, nil, err
		}
		files = append(files, f)
		targets = append(targets, mountTarget{Target: SecretsFolder, Dir: true})
	}
	if g.scratch != nil {
		bounds := *g.scratch
		if c.rt.off&ctlTmp != 0 {
			bounds.Bytes, bounds.Inodes = 0, 0 // none
		}
		f, err := openScratch(&bounds, c.rt.uidBase+c.uid)
		if err != nil {
			return files, nil, err
		}
		files = append(files, f)
		targets = append(targets, mountTarget{Target: g.scratch.Target, Dir: true, Writable: true})
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return files, nil, fmt.Errorf("keep the scratch folder in sight: %w", err)
		}
		c.scratch = os.NewFile(uintptr(fd), "scratch")
	}
	return files, targets, nil
}

func (c *cell) limit(lim Limits) error {
	if c.rt.off&ctlCgroups != 0 {
		return nil
	}
	return c.group.Limit(cgroup.Limits{MemoryBytes: lim.MemoryBytes, CPUMillis: lim.CPUMillis, PIDs: lim.PIDs + 1, IO: lim.io()}) // the init is one
}

// fit gives a warm cell what its spec asks for beyond the shape that it was
// made in: limits, the size of /tmp and grants.
func (c *cell) fit(ctx context.Context, lim Limits, g grants) error {
	if err := c.limit(lim); err != nil {
		return err
	}
	req := request{Kind: kindAttach, UID: c.uid, Off: c.rt.off}
	if lim.TmpBytes != c.tmp {
		req.TmpBytes = lim.TmpBytes
	} else if g.none() {
		return nil
	}
	files, targets, err := c.openGrants(g)
	defer closeFiles(files)
	if err != nil {
		return err
	}
	req.Mounts = targets
	conn, _, err := c.ask(ctx, req, append([]*os.File{c.pidfd}, files...))
	if conn != nil {
		conn.Close()
	}
	return err
}

// alive says whether the init still waits.
func (c *cell) alive() bool {
	p := []unix.PollFd{{Fd: int32(c.pidfd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 0
}

// dispose kills what lives and removes everything.
func (c *cell) dispose() {
	if c.pidfd != nil {
		_ = signalFD(c.pidfd, unix.SIGKILL, 0)
		if err := waitGone(c.pidfd); err != nil {
			c.rt.log.Error("lost sight of a sandbox", "error", err)
		}
		c.pidfd.Close()
	}
	closeFiles(append([]*os.File{c.conn, c.command, c.stdin, c.scratch}, slices.Concat(c.outputs[:], c.inputs[:])...))
	if c.group != nil {
		if err := c.group.Remove(); err != nil {
			c.rt.log.Error("cgroup of an ended sandbox stays", "error", err)
		}
	}
	c.rt.giveUser(c.uid)
}

// closeFiles closes those that there are, and that are open still.
func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

var errInitGone = errors.New("its init died")

// receive returns the next report and the descriptor that came along, or -1.
func receive(conn *os.File) (report, int, error) {
	b := make([]byte, reportSize+1)
	n, fds, err := recvFDs(conn, b, make([]byte, unix.CmsgSpace(4)))
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
