package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/chaos/fault/wire"
)

// insideEnv tells this program that it has been started by Private.
const insideEnv = "HOLDFAST_CHAOS_PRIVATE"

// Inside reports whether this process has namespaces of its own, by Private.
func Inside() bool { return os.Getenv(insideEnv) == "1" }

// Private starts this program again with a network and mount namespace of its
// own, waits for its end, and returns its status. In that second process, which
// calls it too, it makes the namespaces usable and returns with inside set. It
// needs root.
func Private() (inside bool, status int, err error) {
	if Inside() {
		return true, 0, settle()
	}
	self, err := os.Executable()
	if err != nil {
		return false, 0, fmt.Errorf("find this binary: %w", err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	// A terminal sends Ctrl-C to both; what is sent to this one alone goes on.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return false, 0, fmt.Errorf("start in namespaces of its own (needs root): %w", err)
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			return false, 0, fmt.Errorf("the tester in its namespaces ended: %w", err)
		}
		return false, exit.ExitCode(), nil
	}
	return false, 0, err
}

// settle makes new namespaces usable: mounts stay in here, and there is a
// loopback.
func settle() error {
	// What becomes of the parent ends this process too: it holds everything.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the parent: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	return wire.LoopbackUp()
}
