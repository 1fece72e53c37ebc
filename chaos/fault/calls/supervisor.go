package calls

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watched are the calls by which a Go program's files reach the disk.
var Watched = []uint32{unix.SYS_PWRITE64, unix.SYS_FSYNC, unix.SYS_FDATASYNC}

// Call is one system call on a file.
type Call struct {
	Write bool // else a sync
	Path  string
}

// Rule is what happens to some calls.
type Rule struct {
	Match func(Call) bool
	Errno syscall.Errno // fail so; 0: go on
	Delay time.Duration // before it goes on or fails
	Nth   int           // only this match, from 1; 0: every one
}

// Active is a rule that is set.
type Active struct {
	Rule
	on      *Supervisor
	matched int // under the supervisor's lock
	struck  int
}

// Struck is how many calls the rule failed or held back.
func (a *Active) Struck() int {
	a.on.mu.Lock()
	defer a.on.mu.Unlock()
	return a.struck
}

// Remove takes the rule away. What it held back goes on when its time comes.
func (a *Active) Remove() {
	a.on.mu.Lock()
	defer a.on.mu.Unlock()
	a.on.rules = slices.DeleteFunc(a.on.rules, func(r *Active) bool { return r == a })
}

// Supervisor answers for the calls of one node's processes, one after the
// other.
type Supervisor struct {
	dir string

	mu    sync.Mutex
	rules []*Active
	seen  int

	done chan struct{}
	stop [2]int // pipe that wakes the readers at Close
	wg   sync.WaitGroup
}

// New supervises files below dir.
func New(dir string) (*Supervisor, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("supervise a folder: %w", err)
	}
	s := &Supervisor{dir: dir + "/", done: make(chan struct{})}
	if err := unix.Pipe2(s.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("supervise: make a pipe: %w", err)
	}
	return s, nil
}

// Set puts a rule in force.
func (s *Supervisor) Set(r Rule) *Active {
	a := &Active{Rule: r, on: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, a)
	return a
}

// Seen is how many calls on the folder's files were asked about.
func (s *Supervisor) Seen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Socket gives both ends for a start: one to launch with, one for Accept.
func Socket() (child, own *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "supervisor")
		c, err := net.FileConn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, nil, err
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1], nil
}

// acceptPatience bounds the start of a process up to its filter.
const acceptPatience = 30 * time.Second

// Accept takes over the calls of a process that has just been started.
func (s *Supervisor) Accept(own *net.UnixConn) error {
	defer own.Close()
	if err := own.SetReadDeadline(time.Now().Add(acceptPatience)); err != nil {
		return err
	}
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := own.ReadMsgUnix(b, oob)
	if err != nil {
		return fmt.Errorf("wait for the process to hand over its calls: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return fmt.Errorf("the process handed over no descriptor; it could not start: %w", err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("the process handed over %d descriptors: %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	s.wg.Add(1)
	go s.serve(fds[0])
	return nil
}

// The kernel's structures and requests, from linux/seccomp.h.
type notification struct {
	ID    uint64
	PID   uint32
	Flags uint32
	Call  int32
	Arch  uint32
	IP    uint64
	Args  [6]uint64
}

type response struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

const (
	ioctlReceive = 0xc0502100
	ioctlSend    = 0xc0182101
	goOn         = 1
)

// serve answers one process's calls until it ends.
func (s *Supervisor) serve(fd int) {
	defer s.wg.Done()
	var held sync.WaitGroup
	defer func() {
		held.Wait()
		_ = unix.Close(fd)
	}()
	for {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(s.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		stopped := polled[1].Revents != 0
		if polled[0].Revents&unix.POLLIN == 0 {
			if stopped || polled[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
				return
			}
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // ENOENT: a signal ended the call
		}
		errno, delay := s.judge(&n)
		if delay == 0 {
			answer(fd, n.ID, errno)
			continue
		}
		held.Go(func() {
			t := time.NewTimer(delay)
			defer t.Stop()
			select {
			case <-t.C:
			case <-s.done:
			}
			answer(fd, n.ID, errno)
		})
	}
}

func answer(fd int, id uint64, errno syscall.Errno) {
	r := response{ID: id, Error: -int32(errno)}
	if errno == 0 {
		r.Flags = goOn
	}
	// An error is a process that is gone.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlSend, uintptr(unsafe.Pointer(&r)))
}

// judge finds what happens to a call.
func (s *Supervisor) judge(n *notification) (syscall.Errno, time.Duration) {
	s.mu.Lock()
	quiet := len(s.rules) == 0
	s.seen++
	s.mu.Unlock()
	if quiet {
		return 0, 0
	}
	path, err := os.Readlink("/proc/" + strconv.Itoa(int(n.PID)) + "/fd/" + strconv.FormatUint(n.Args[0]&0xffffffff, 10))
	if err != nil || !strings.HasPrefix(path, s.dir) {
		return 0, 0
	}
	call := Call{Write: n.Call == unix.SYS_PWRITE64, Path: path}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errno syscall.Errno
	var delay time.Duration
	for _, a := range s.rules {
		if !a.Match(call) {
			continue
		}
		if a.matched++; a.Nth > 0 && a.matched != a.Nth {
			continue
		}
		a.struck++
		delay += a.Delay
		if a.Errno != 0 {
			errno = a.Errno
		}
	}
	return errno, delay
}

// Close ends the supervision. The processes must have ended: without a
// supervisor their calls would fail.
func (s *Supervisor) Close() error {
	close(s.done)
	_, err := unix.Write(s.stop[1], []byte{0})
	s.wg.Wait()
	return errors.Join(err, unix.Close(s.stop[0]), unix.Close(s.stop[1]))
}
