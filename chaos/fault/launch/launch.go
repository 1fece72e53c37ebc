package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// childName is how this binary is called when it is to become another.
const childName = "holdfast-chaos-launch"

// Options say how a program starts.
type Options struct {
	// Namespace is the path of a network namespace; empty is this process's.
	Namespace string
	// Watch are the numbers of system calls to supervise. The program waits in
	// each until the supervisor has answered.
	Watch []uint32
	// Supervisor gets the descriptor over which that is done.
	Supervisor *net.UnixConn
}

// order is what the child is told.
type order struct {
	Namespace string
	Watch     []uint32
	Path      string
	Args      []string
}

// Wrap changes cmd so that it starts as opt says. After cmd has started, the
// supervised calls' descriptor comes over the other end of opt.Supervisor.
func Wrap(cmd *exec.Cmd, opt Options) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	b, err := json.Marshal(order{opt.Namespace, opt.Watch, cmd.Path, cmd.Args})
	if err != nil {
		return err
	}
	if len(opt.Watch) > 0 {
		f, err := opt.Supervisor.File()
		if err != nil {
			return fmt.Errorf("pass the supervisor on: %w", err)
		}
		cmd.ExtraFiles = []*os.File{f} // descriptor 3
	}
	cmd.Path, cmd.Args = self, []string{childName, string(b)}
	return nil
}

// RunIfChild becomes another program if this process was started for that.
func RunIfChild() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	fmt.Fprintln(os.Stderr, "holdfast: start under chaos:", become(os.Args[1]))
	os.Exit(1)
}

// become returns only with an error.
func become(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	// Namespace and filter are the thread's; exec makes it the process's.
	runtime.LockOSThread()
	if o.Namespace != "" {
		if err := enter(o.Namespace); err != nil {
			return err
		}
	}
	if len(o.Watch) > 0 {
		if err := supervise(o.Watch); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", o.Path, syscall.Exec(o.Path, o.Args, os.Environ()))
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open a network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// supervise installs the filter and sends its descriptor to the supervisor.
func supervise(watch []uint32) error {
	const supervisorFD = 3
	unix.CloseOnExec(supervisorFD)
	fd, err := filter(watch)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(supervisorFD, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return errors.Join(fmt.Errorf("send the supervised calls' descriptor: %w", err), unix.Close(fd))
	}
	return unix.Close(fd)
}
