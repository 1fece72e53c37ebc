package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// arm starts the clocks and the goroutines of a sandbox that runs.
func (s *Sandbox) arm(ctx context.Context) {
	for _, st := range s.streams {
		go st.run()
	}
	if d := s.limits.WallTime; d > 0 {
		s.stopTimers = append(s.stopTimers, time.AfterFunc(d-time.Since(s.started), func() { s.Kill(EndTimeout) }).Stop)
	}
	s.stopTimers = append(s.stopTimers, context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			s.Kill(EndTimeout)
			return
		}
		s.Kill(EndCancelled)
	}))
	if s.limits.CPUTime > 0 {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { defer close(stopped); s.watchCPU(stop) }()
		s.stopTimers = append(s.stopTimers, func() bool { close(stop); <-stopped; return true })
	}
	s.mu.Lock()
	s.armed = true
	why := s.why
	s.mu.Unlock()
	if why != "" { // Close came while we started
		s.Kill(why)
	}
	go s.watch()
}

// watch lives as long as the sandbox and makes its result.
func (s *Sandbox) watch() {
	last, err := s.reports()
	if s.limits.anyIO() {
		s.group.ReleaseIO()
	}
	// Alone, the init waits for its end, and nobody needs to wait for that.
	// Otherwise the kernel kills whatever the command left, and the pidfd
	// is readable when all of it is gone.
	if alone := err == nil && last.Kind == reportExited && last.Step == leftNothing; !alone {
		if werr := waitGone(s.pidfd); werr != nil {
			s.rt.log.Error("lost sight of a sandbox", "sandbox", s.id, "error", werr)
		}
	}
	wall := time.Since(s.started)
	for _, stop := range s.stopTimers {
		stop()
	}
	s.mu.Lock()
	why := s.why
	s.ended = true
	if s.stopped != nil {
		s.stopped.Stop()
	}
	s.mu.Unlock()
	cut := finish(s.streams)
	use := s.group.Usage()
	s.result = s.judge(last, err, why, use.OOMKills)
	s.result.NotEnforced = s.group.NotEnforced()
	if s.limits.CPUTime > 0 {
		if _, ok := s.group.CPU(); !ok {
			s.result.NotEnforced = append(s.result.NotEnforced, "cpu_time")
		}
	}
	s.result.Message = join(s.result.Message, cut)
	s.result.Weaker = s.rt.Weaker()
	s.result.Usage = Usage{CPU: use.CPU, Wall: wall, MemoryPeakBytes: use.MemoryPeakBytes}
	if last.Kind == reportExited { // what the machine's cgroups do not count
		if use.CPU == 0 {
			s.result.Usage.CPU = time.Duration(last.User+last.System) * time.Microsecond
		}
		if use.MemoryPeakBytes == 0 {
			s.result.Usage.MemoryPeakBytes = last.MaxRSS << 10
		}
	}
	close(s.done)
	runtime.Gosched() // to whoever waits for it
	// What is left: the init with its mounts, and empty cgroups, whose removal
	// takes longer than a whole short life. Close waits for it.
	s.dispose()
	s.rt.release(s)
}

// cpuWatchLeast bounds how often the CPU time is looked at, and so by how much
// a limit can be passed: by this, on each CPU that the quota grants.
const cpuWatchLeast = 5 * time.Millisecond

// watchCPU kills the sandbox when its processes together used up their CPU time:
// resource limits of the kernel count each process for itself, and a new one
// starts at zero.
func (s *Sandbox) watchCPU(stop <-chan struct{}) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		used, ok := s.group.CPU()
		if !ok {
			return // the result says so
		}
		left := s.limits.CPUTime - used
		if left <= 0 {
			s.Kill(EndCPUTime)
			return
		}
		// The quota bounds how soon that can be used up. It is given out by
		// periods, so that a part may come at once: half of the way is safe.
		t.Reset(max(cpuWatchLeast, min(left/2/time.Duration(s.limits.CPUMillis)*1000, time.Minute)))
	}
}

// reports reads until the command's end, and returns the last report.
func (s *Sandbox) reports() (report, error) {
	for {
		rep, fd, err := receive(s.conn)
		if err != nil {
			if fd >= 0 {
				unix.Close(fd)
			}
			if !errors.Is(err, errInitGone) {
				_ = signalFD(s.pidfd, unix.SIGKILL, 0)
			}
			return rep, err
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		if rep.Kind == reportExited || rep.Kind == reportExecFailed {
			s.mu.Lock()
			s.ended = true
			s.mu.Unlock()
			return rep, nil
		}
	}
}

// judge says why the attempt ended.
func (s *Sandbox) judge(last report, err error, why EndReason, oomKills int64) Result {
	res := Result{ExitCode: -1}
	status := syscall.WaitStatus(last.Status)
	switch {
	case err == nil && last.Kind == reportExecFailed:
		res.Reason = EndStartFailed
		res.Message = startFailure(last)
		if why != "" {
			res.Reason = why
		}
		return res
	case err == nil && status.Exited():
		res.Reason, res.ExitCode = EndExit, status.ExitStatus()
	case err == nil && status.Signaled():
		res.Reason, res.Signal = EndSignal, unix.SignalName(status.Signal())
	default:
		res.Reason, res.Message = EndLost, "the sandbox vanished without a report"
		if why != "" || oomKills > 0 {
			res.Signal, res.Message = "SIGKILL", ""
		}
	}
	switch {
	case why != "":
		res.Reason = why
		if why == EndCPUTime {
			res.Message = fmt.Sprintf("it used its %s of CPU time", s.limits.CPUTime)
		}
	case oomKills > 0 && res.ExitCode != 0:
		res.Reason = EndOutOfMemory
		res.Message = fmt.Sprintf("the kernel killed %d processes at the limit of %d bytes", oomKills, s.limits.MemoryBytes)
	case res.ExitCode != 0 && full(s.scratch):
		// As with memory: a command that copes with it succeeds.
		res.Reason, res.Message = EndDiskLimit, "it failed with its scratch folder full"
	case oomKills > 0:
		res.Message = fmt.Sprintf("%d of its processes were killed at the limit of %d bytes", oomKills, s.limits.MemoryBytes)
	}
	return res
}

func startFailure(r report) string {
	e := unix.Errno(r.Errno)
	switch r.Step {
	case stageWorkDir:
		return fmt.Sprintf("enter the work folder: %v", e)
	case stageExec:
		switch e {
		case unix.ENOENT:
			return "command not found: is it in a system folder or a grant, and is its interpreter?"
		case unix.EACCES:
			return "command may not be executed: permission denied"
		case unix.ENOEXEC:
			return "command is not a program for this machine: exec format error"
		}
		return fmt.Sprintf("execute the command: %v", e)
	case stageFork:
		return fmt.Sprintf("create the command's process: %v", e)
	}
	return fmt.Sprintf("hand over the task: %v", e)
}

// Wait returns the result. It may be called many times, by many.
func (s *Sandbox) Wait() Result {
	<-s.done
	return s.result
}

// over says whether Wait would not block.
func (s *Sandbox) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Done is closed when Wait would not block.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Kill kills every process of the sandbox at once. The first reason given by
// Kill or Stop stands, unless the command had ended before. It does not wait.
func (s *Sandbox) Kill(reason EndReason) {
	s.mu.Lock()
	if s.why == "" && !s.ended {
		s.why = reason
	}
	armed := s.armed
	s.mu.Unlock()
	if !armed {
		return // arm will see it
	}
	if err := signalFD(s.pidfd, unix.SIGKILL, 0); err != nil {
		s.rt.log.Error("kill a sandbox", "sandbox", s.id, "error", err)
	}
	if s.limits.anyIO() {
		s.group.ReleaseIO()
	}
}

// Stop sends SIGTERM to the command's process group (on a kernel before 6.9, to
// the command) and kills the sandbox after the grace. It does not wait.
func (s *Sandbox) Stop(reason EndReason, grace time.Duration) {
	if grace <= 0 {
		s.Kill(reason)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.stopped != nil {
		return
	}
	if s.why == "" {
		s.why = reason
	}
	s.stopped = time.AfterFunc(grace, func() { s.Kill(reason) })
	s.signalCommand(unix.SIGTERM)
}

// signalCommand sends a signal to the command's process group. If that process
// is about to execute the command, it dies as the command would.
func (s *Sandbox) signalCommand(sig unix.Signal) {
	err := signalFD(s.command, sig, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if errors.Is(err, unix.EINVAL) {
		err = signalFD(s.command, sig, 0)
	}
	if err != nil {
		s.rt.log.Error("signal a command", "sandbox", s.id, "signal", unix.SignalName(sig), "error", err)
	}
}
