package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// launcherName is argv[0] of the launcher.
const launcherName = "holdfast-sandbox-launcher"

// launcherSock is the launcher's end of its control socket.
const launcherSock = 3

// defaultTimerSlack is Linux's own, in nanoseconds.
const defaultTimerSlack = 50_000

// RunIfChild runs the launcher and does not return, if this process is one.
// Every program and every TestMain that uses this package calls it first.
//
// No flag or variable of a user leads here: a launcher is PID 1 of a pid
// namespace and descriptor 3 is its socket, which only New arranges. Inside the
// sandboxes of Prove, this program is the prover.
func RunIfChild() {
	if isProver() {
		os.Exit(prove())
	}
	if len(os.Args) != 1 || os.Args[0] != launcherName || os.Getpid() != 1 {
		return
	}
	kind, err := unix.GetsockoptInt(launcherSock, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return
	}
	// Inits ask to die with the thread that forked them: it must be this one,
	// for ever.
	runtime.LockOSThread()
	if err := launch(); err != nil {
		fmt.Fprintln(os.Stderr, launcherName+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// launch is the launcher's life: build the base, then serve until the node
// closes its end of the socket, by its death at the latest.
func launch() error {
	unix.CloseOnExec(launcherSock)
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the launcher undumpable: %w", err)
	}
	// A node lets its own timers be late. Inits are forked from this thread.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, defaultTimerSlack, 0, 0, 0); err != nil {
		return fmt.Errorf("set the tasks' timer slack: %w", err)
	}
	// Sandboxes must not share the node's session keyring. Without the call in
	// the kernel there is no keyring to share.
	_, _ = unix.KeyctlJoinSessionKeyring("")
	l := &launcher{class: classOfEnvironment(), buf: make([]byte, maxControlMessage), oob: make([]byte, unix.CmsgSpace(253*4))}
	err := l.prepare()
	hello := answer{}
	if err != nil {
		hello.Err = err.Error()
	}
	if e := l.answer(hello, -1); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	for {
		err := l.serve()
		if errors.Is(err, errNodeGone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
