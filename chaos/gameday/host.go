package gameday

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/client"
)

// Host is what a guardian can see of its node and do to it.
type Host interface {
	// Find is the node's process.
	Find() (target, error)
	// Signal reaches exactly that process, or is an error.
	Signal(t target, s syscall.Signal) error
	// Status is what the node says of the cluster.
	Status(context.Context) (*client.ClusterStatus, error)
	// Reach is an error if another node does not serve.
	Reach(ctx context.Context, addr string) error
}

// nodeHost is a node of this machine, by its data folder.
type nodeHost struct{ data string }

func (h nodeHost) socket() string { return filepath.Join(h.data, "holdfast.sock") }

// Find asks the kernel who listens at the node's socket.
func (h nodeHost) Find() (target, error) {
	c, err := net.DialTimeout("unix", h.socket(), time.Second)
	if err != nil {
		return target{}, fmt.Errorf("find the node's process: %w", err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return target{}, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return target{}, err
	}
	if cerr != nil {
		return target{}, fmt.Errorf("find the node's process: %w", cerr)
	}
	start, err := startOf(int(cred.Pid))
	return target{int(cred.Pid), start}, err
}

// startOf is when a process began, in ticks since boot, with the boot itself:
// after a reboot the same numbers mean other processes.
func startOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	const field = 19 // starttime is the 22nd, and the third is the first after the name
	if len(f) <= field {
		return "", fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return strings.TrimSpace(string(boot)) + "/" + f[field], nil
}

// errGone tells that the process has ended.
var errGone = errors.New("the process has ended")

func (h nodeHost) Signal(t target, s syscall.Signal) error {
	// The descriptor stays bound to the process that it was opened for, so that
	// the number cannot become another's between the look and the signal.
	fd, err := unix.PidfdOpen(t.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", t.PID, err)
	}
	defer unix.Close(fd)
	if start, err := startOf(t.PID); err != nil || start != t.Start {
		return errGone
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil {
		return fmt.Errorf("signal process %d: %w", t.PID, err)
	}
	return nil
}

func (h nodeHost) Status(ctx context.Context) (*client.ClusterStatus, error) {
	cl, err := client.New(client.Config{UnixSocket: h.socket(), Timeout: 2 * time.Second, Retry: client.Retries{Attempts: 1}})
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return cl.Cluster(ctx, client.Stale(0))
}

// Reach wants a handshake and sends nothing: a process that stands still has an
// open port and never answers. Whose certificate it is does not matter here.
func (h nodeHost) Reach(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
