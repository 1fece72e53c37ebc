package sandbox

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What follows runs in the child of a raw clone3 of a Go process: one thread,
// no scheduler, no garbage collector, no stack growth. Every function is
// nosplit and touches only its image; nothing allocates, nothing stores a Go
// pointer. All decisions were taken before the fork, by the script's writer.

// cloneChild makes a clone call that gives the child a stack of its own, on
// which it runs main, the address of initMain or commandMain. It returns what the
// kernel does, errors as negative numbers.
func cloneChild(trap, a1, a2, a3, main uintptr, im *image) uintptr

// address of the code of a function.
//
//go:nosplit
//go:norace
//go:nocheckptr
func address(f func(*image)) uintptr { return **(**uintptr)(unsafe.Pointer(&f)) }

// cloned splits the result of a clone call.
//
//go:nosplit
//go:norace
//go:nocheckptr
func cloned(r uintptr) (pid uintptr, e syscall.Errno) {
	if n := int(r); n < 0 {
		return 0, syscall.Errno(-n)
	}
	return r, 0
}

// cloneArgs is the kernel's struct clone_args, version 2.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// initSock is the descriptor of the init's socket after the script ran.
const initSock = 3

// forkInit clones a process that runs the image, and returns its pid. The child
// has next to nothing of this one: a stack and thread-local memory in the image,
// no signal handlers, and of memory what shedMemory leaves.
func forkInit(im *image, flags uint64) (int, syscall.Errno) {
	im.clone = cloneArgs{
		flags:      flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_SETTLS,
		pidfd:      uint64(uintptr(unsafe.Pointer(&im.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
		stack:      uint64(uintptr(unsafe.Pointer(&im.initStack))),
		stackSize:  uint64(unsafe.Sizeof(im.initStack)),
		tls:        uint64(uintptr(unsafe.Pointer(&im.tls))) + tlsOffset,
	}
	pid, e := cloned(cloneChild(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&im.clone)), unsafe.Sizeof(im.clone), 0, address(initMain), im))
	return int(pid), e
}

// tlsOffset is where within its memory a thread pointer of Go points: on amd64
// the running goroutine's address is just below it. It is loaded after a call of
// assembly, and nothing here looks at it.
const tlsOffset = 256

//go:nosplit
//go:norace
//go:nocheckptr
func sys(trap, a, b, c uintptr) (uintptr, syscall.Errno) {
	r, _, e := syscall.RawSyscall6(trap, a, b, c, 0, 0, 0)
	return r, e
}

//go:nosplit
//go:norace
//go:nocheckptr
func exit(code uintptr) {
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, code, 0, 0)
	}
}

//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func say(im *image, kind int32, step int32, e syscall.Errno) {
	im.report.Kind, im.report.Step, im.report.Errno = kind, step, int32(e)
	sys(unix.SYS_WRITE, initSock, uintptr(unsafe.Pointer(&im.report)), unsafe.Sizeof(im.report))
}

//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func initMain(im *image) {
	for i := uintptr(0); i < im.nsteps && i < maxSteps; i++ {
		s := &im.steps[i]
		a := s.args // changing the step itself would copy its page
		for j := range a {
			if r := s.regs[j]; r != 0 {
				a[j] = im.regs[r&(numRegs-1)]
			}
		}
		r, _, e := syscall.RawSyscall6(s.trap, a[0], a[1], a[2], a[3], a[4], a[5])
		if e != 0 && !s.soft {
			say(im, reportSetup, int32(s.id), e)
			exit(120)
		}
		if s.out != 0 {
			im.regs[s.out&(numRegs-1)] = r
		}
	}
	for im.then == thenHold {
		sys(unix.SYS_PPOLL, 0, 0, 0)
	}
	say(im, reportReady, 0, 0)
	if im.then == thenExit {
		exit(0)
	}
	initTask(im)
}

// initTask makes the command's process, which waits for the task, and reports
// its end. When it exits, the kernel kills everything in the pid namespace:
// daemons, stopped processes and whatever else the command left behind.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func initTask(im *image) {
	// The child borrows our memory until it executes the command or exits: no
	// page tables are copied, and its failure is found here. It is made before
	// the task comes, so that a warm start waits for no fork; with CLONE_VFORK we
	// would sleep in a state that counts as load.
	stack := uintptr(unsafe.Pointer(&im.stack)) + unsafe.Sizeof(im.stack)
	pid, errno := cloned(cloneChild(unix.SYS_CLONE, uintptr(unix.SIGCHLD)|unix.CLONE_VM|unix.CLONE_PIDFD, stack, uintptr(unsafe.Pointer(&im.pidfd)), address(commandMain), im))
	if errno != 0 {
		say(im, reportExecFailed, stageFork, errno)
		exit(121)
	}
	// Only the command may hold the streams, or the node never sees their end.
	sys(unix.SYS_CLOSE_RANGE, 0, 2, 0)
	sendCommand(im)
	sys(unix.SYS_CLOSE, uintptr(im.pidfd), 0, 0)
	for {
		w, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&im.status)), 0, uintptr(unsafe.Pointer(&im.usage)), 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 {
			exit(122)
		}
		if w == pid {
			break
		}
	}
	switch {
	case im.failure[0] == stageGone:
		exit(0) // the node changed its mind or died
	case im.failure[1] != 0:
		say(im, reportExecFailed, im.failure[0], syscall.Errno(im.failure[1]))
		exit(121)
	}
	im.report.Status = im.status
	im.report.User = im.usage[0]*1e6 + im.usage[1]
	im.report.System = im.usage[2]*1e6 + im.usage[3]
	im.report.MaxRSS = im.usage[4]
	left := leftBehind(im)
	say(im, reportExited, left, 0)
	if left == leftNothing {
		// Our end takes the kernel longer than all that the command did, and the
		// node is to get the processor first. It kills us, or dies.
		sys(unix.SYS_READ, initSock, uintptr(unsafe.Pointer(&im.status)), unsafe.Sizeof(im.status))
	}
	exit(0)
}

// leftBehind tells whether anything but the init lives in the pid namespace.
// Orphans become the init's children, and nobody comes in from outside: without
// children it is alone.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func leftBehind(im *image) int32 {
	for range maxZombies {
		w, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&im.status)), unix.WNOHANG|unix.WALL, 0, 0, 0)
		if e == syscall.ECHILD {
			return leftNothing
		}
		if e != 0 || w == 0 {
			break
		}
	}
	return leftPerhaps
}

// commandMain is the command's process until it executes the command. Of the
// image it uses what the init does not.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func commandMain(im *image) {
	sys(unix.SYS_SETSID, 0, 0, 0)
	sys(unix.SYS_WRITE, initSock, uintptr(unsafe.Pointer(&im.ready)), unsafe.Sizeof(im.ready))
	n, e := sys(unix.SYS_READ, initSock, uintptr(unsafe.Pointer(&im.msg)), msgSize)
	switch {
	case e != 0 || n == 0:
		im.failure[0] = stageGone
	case !parse(im, n):
		im.failure[0], im.failure[1] = stageMessage, int32(syscall.EBADMSG)
	default:
		execTask(im)
	}
	exit(127)
}

// execTask returns when the command cannot be executed.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func execTask(im *image) {
	if head := (*[taskHead / 4]uint32)(unsafe.Pointer(&im.msg)); head[4]&taskJoined != 0 {
		sys(unix.SYS_DUP3, 1, 2, 0)
	}
	im.failure[0] = stageWorkDir
	_, e := sys(unix.SYS_CHDIR, uintptr(unsafe.Pointer(&im.msg[taskHead])), 0, 0)
	if e == 0 {
		im.failure[0] = stageExec
		e = syscall.ENOENT
		for i := 0; i < maxCandidates && im.cands[i] != 0; i++ {
			_, last := sys(unix.SYS_EXECVE, im.cands[i], uintptr(unsafe.Pointer(&im.argv)), uintptr(unsafe.Pointer(&im.envv)))
			// As execvp: a file that may not be run says more than a missing one.
			if last != syscall.ENOENT && last != syscall.ENOTDIR {
				e = last
				if last != syscall.EACCES {
					break
				}
			}
		}
	}
	im.failure[1] = int32(e)
}

// parse finds the strings in a message of n bytes.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func parse(im *image, n uintptr) bool {
	head := (*[taskHead / 4]uint32)(unsafe.Pointer(&im.msg))
	if n <= taskHead || n > msgSize || uintptr(head[3]) != n || im.msg[n-1] != 0 {
		return false
	}
	if head[0] > maxCandidates || head[1] > maxCommand || head[2] > maxEnv {
		return false
	}
	at := uintptr(taskHead)
	for at < n && im.msg[at] != 0 { // the work folder
		at++
	}
	at++
	for list := 0; list < 3; list++ {
		for i := uint32(0); i < head[list]; i++ {
			if at >= n {
				return false
			}
			p := uintptr(unsafe.Pointer(&im.msg)) + at
			switch list {
			case 0:
				im.cands[i] = p
			case 1:
				im.argv[i] = p
			default:
				im.envv[i] = p
			}
			for at < n && im.msg[at] != 0 {
				at++
			}
			at++
		}
	}
	return at == n
}

// sendCommand passes the pidfd of the command's process, with which the node can
// send it a signal.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func sendCommand(im *image) {
	im.report.Kind, im.report.Step, im.report.Errno = reportCommand, 0, 0
	im.iov = [2]uintptr{uintptr(unsafe.Pointer(&im.report)), unsafe.Sizeof(im.report)}
	im.hdr.iov, im.hdr.iovlen = uintptr(unsafe.Pointer(&im.iov)), 1
	c := (*unix.Cmsghdr)(unsafe.Pointer(&im.control))
	c.Len, c.Level, c.Type = unix.SizeofCmsghdr+4, unix.SOL_SOCKET, unix.SCM_RIGHTS
	*(*int32)(unsafe.Pointer(&im.control[unix.SizeofCmsghdr])) = im.pidfd
	im.hdr.control, im.hdr.controllen = uintptr(unsafe.Pointer(&im.control)), unix.SizeofCmsghdr+8
	sys(unix.SYS_SENDMSG, initSock, uintptr(unsafe.Pointer(&im.hdr)), 0)
}
