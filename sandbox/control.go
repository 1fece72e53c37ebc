package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launcherPatience bounds the wait for one answer of the launcher. An answer
// takes well under a millisecond; a machine that pages may take long.
const launcherPatience = 30 * time.Second

var errLauncherDied = errors.New("the sandbox launcher died")

// control socket of one living launcher, on the node's side.
type launcherClient struct {
	mu   sync.Mutex // one conversation at a time
	conn *os.File
	buf  []byte
	oob  []byte
	proc *os.Process
	dead chan struct{} // closed when the process is gone

	broken atomic.Bool // the conversation failed: answers would not match requests
}

// startLauncher starts one and waits until its base stands. weaker are the walls
// that it is to do without; anything else that is missing makes it fail.
func startLauncher(cl class, uidBase, uidCount int, weaker []string) (*launcherClient, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the launcher's socket: %w", err)
	}
	for _, fd := range pair {
		for _, opt := range []int{unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE} {
			// Refused without CAP_NET_ADMIN; then only very long requests fail.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, 2*maxControlMessage)
		}
	}
	theirs := os.NewFile(uintptr(pair[1]), "launcher")
	defer theirs.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	c := &launcherClient{
		conn: os.NewFile(uintptr(pair[0]), "launcher"),
		buf:  make([]byte, maxControlMessage),
		oob:  make([]byte, unix.CmsgSpace(4)),
		dead: make(chan struct{}),
	}
	started := make(chan error)
	go c.run(cl, theirs, uidBase, uidCount, weaker, started)
	if err := <-started; err != nil {
		c.conn.Close()
		return nil, err
	}
	var hello answer
	err = c.conn.SetDeadline(time.Now().Add(launcherPatience))
	if err == nil {
		_, err = c.receive(&hello)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// run keeps the launcher's process on a thread of its own: the launcher asks to
// die with the thread that started it, and idle threads of Go may end.
func (c *launcherClient) run(cl class, theirs *os.File, uidBase, uidCount int, weaker []string, started chan<- error) {
	runtime.LockOSThread()
	defer close(c.dead)
	self, err := openSelf(cl.off&ctlSelf == 0)
	if err != nil {
		started <- err
		return
	}
	cmd := &exec.Cmd{
		Path:       fmt.Sprintf("/proc/self/fd/%d", self.Fd()),
		Args:       []string{launcherName},
		Env:        append(cl.environment(), "GOMAXPROCS=1", "GOTRACEBACK=single", withoutRseq, weakerEnv+"="+strings.Join(weaker, ",")),
		Dir:        "/",
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS |
				unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
			// The host's root is not in the range: nothing below can be it.
			UidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: uidBase, Size: uidCount}},
			GidMappings:                []syscall.SysProcIDMap{{ContainerID: 0, HostID: uidBase, Size: uidCount}},
			GidMappingsEnableSetgroups: true,
			Credential:                 &syscall.Credential{Uid: 0, Gid: 0},
			Setsid:                     true, // a Ctrl-C for the node is not for its tasks
			Pdeathsig:                  syscall.SIGKILL,
		},
	}
	err = cmd.Start()
	self.Close()
	if err != nil {
		started <- fmt.Errorf("start the sandbox launcher: %w", err)
		return
	}
	c.proc = cmd.Process
	started <- nil
	_ = cmd.Wait()
}

// withoutRseq keeps a C library, with which the race detector is linked for
// example, from having the kernel write into its threads' memory: inits inherit
// the request, but not the memory.
const withoutRseq = "GLIBC_TUNABLES=glibc.pthread.rseq=0"

// openSelf opens this program for execution such that nothing can write to it
// through the descriptor that /proc/<pid>/exe becomes (CVE-2019-5736): a
// read-only mount of the one file, or, where others may not execute the file,
// a sealed copy in memory. Only a test wants it otherwise.
func openSelf(sealed bool) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	if st.Mode&0o001 == 0 {
		return copySelf()
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone a mount of this program: %w", err)
	}
	f := os.NewFile(uintptr(fd), "self")
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if !sealed {
		attr.Attr_set &^= unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the mount of this program read-only: %w", err)
	}
	return f, nil
}

func copySelf() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("open this program: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("holdfast", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("holdfast", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a copy of this program: %w", err)
	}
	f := os.NewFile(uintptr(fd), "self")
	if _, err := f.ReadFrom(src); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy this program: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal the copy of this program: %w", err)
	}
	return f, nil
}

// call sends a request with its descriptors. It returns the descriptor that
// comes back, or -1, and the answer.
func (c *launcherClient) call(req request, fds []int) (int, answer, error) {
	var a answer
	b, err := encodeJSON(req)
	if err != nil {
		return -1, a, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken.Load() {
		return -1, a, errLauncherDied
	}
	if err := c.conn.SetDeadline(time.Now().Add(launcherPatience)); err != nil {
		return -1, a, errLauncherDied
	}
	if err := sendFDs(c.conn, b, fds); err != nil {
		c.broken.Store(true)
		return -1, a, fmt.Errorf("%w: %w", errLauncherDied, err)
	}
	fd, err := c.receive(&a)
	return fd, a, err
}

func (c *launcherClient) receive(a *answer) (int, error) {
	n, fds, err := recvFDs(c.conn, c.buf, c.oob)
	if err != nil || n == 0 {
		closeAll(fds)
		c.broken.Store(true)
		return -1, errors.Join(errLauncherDied, err)
	}
	if err := json.Unmarshal(c.buf[:n], a); err != nil {
		closeAll(fds)
		return -1, fmt.Errorf("read the launcher's answer: %w", err)
	}
	if a.Err != "" {
		closeAll(fds)
		return -1, fmt.Errorf("sandbox launcher: %s", a.Err)
	}
	if len(fds) == 0 {
		return -1, nil
	}
	return fds[0], nil
}

// alive says whether requests can still be answered.
func (c *launcherClient) alive() bool {
	select {
	case <-c.dead:
		return false
	default:
		return !c.broken.Load()
	}
}

// Close ends the launcher, and with it every sandbox.
func (c *launcherClient) Close() {
	c.conn.Close()
	_ = c.proc.Kill() // also when it hangs
	<-c.dead
}
