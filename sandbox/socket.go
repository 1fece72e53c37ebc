package sandbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// sendFDs sends one message with descriptors through the runtime's poller.
func sendFDs(f *os.File, b []byte, fds []int) error {
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var e error
	err = rc.Write(func(s uintptr) bool {
		e = unix.Sendmsg(int(s), b, oob, nil, unix.MSG_NOSIGNAL)
		for errors.Is(e, unix.EINTR) {
			e = unix.Sendmsg(int(s), b, oob, nil, unix.MSG_NOSIGNAL)
		}
		return !errors.Is(e, unix.EAGAIN)
	})
	return errors.Join(err, e)
}

// recvFDs receives one message. A length of 0 is the end.
func recvFDs(f *os.File, b, oob []byte) (int, []int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	var n, oobn int
	var e error
	err = rc.Read(func(s uintptr) bool {
		n, oobn, _, _, e = unix.Recvmsg(int(s), b, oob, unix.MSG_CMSG_CLOEXEC)
		for errors.Is(e, unix.EINTR) {
			n, oobn, _, _, e = unix.Recvmsg(int(s), b, oob, unix.MSG_CMSG_CLOEXEC)
		}
		return !errors.Is(e, unix.EAGAIN)
	})
	if err = errors.Join(err, e); err != nil {
		return 0, nil, err
	}
	return n, rights(oob[:oobn]), nil
}

// waitGone waits until the process behind a non-blocking pidfd is gone, and, if
// it was PID 1 of a namespace, everything in there before it.
func waitGone(pidfd *os.File) error {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n > 0
	})
}

// signalFD sends a signal through a pidfd; a process that is gone is no error.
func signalFD(pidfd *os.File, sig unix.Signal, flags int) error {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return nil // closed: it is gone
	}
	var e error
	if err := rc.Control(func(fd uintptr) { e = unix.PidfdSendSignal(int(fd), sig, nil, flags) }); err != nil {
		return nil
	}
	if errors.Is(e, unix.ESRCH) {
		return nil
	}
	return e
}
