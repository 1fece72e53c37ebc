package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	probes["hoard"] = probeHoard
}

// hoards are the ways to hold memory. Each takes about one MiB more, and what
// it returned before stays held.
var hoards = map[string]func() (more func() error){
	"heap":   hoardHeap,
	"tmp":    func() func() error { return hoardFile(os.Create("/tmp/hoard")) },
	"shm":    func() func() error { return hoardFile(os.Create("/dev/shm/hoard")) },
	"memfd":  hoardMemfd,
	"pipes":  hoardPipes,
	"unix":   hoardUnix,
	"tcp":    hoardTCP,
	"udp":    hoardUDP,
	"queues": hoardQueues,

	"netlink": hoardNetlink,
	"errors":  hoardErrors,
	"stamps":  hoardStamps,
}

const mib = 1 << 20

// probeHoard holds MiB after MiB, and tells each: what it told last is what it
// had when the kernel killed it.
func probeHoard(args []string) {
	n, _ := strconv.Atoi(args[1])
	more := hoards[args[0]]()
	for i := range n {
		if err := more(); err != nil {
			fmt.Println("refused", errno(err))
			return
		}
		fmt.Println("holds", i+1)
	}
}

var held [][]byte

func hoardHeap() func() error {
	return func() error {
		b := make([]byte, mib)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		held = append(held, b)
		return nil
	}
}

func hoardFile(f *os.File, err error) func() error {
	block := make([]byte, mib)
	return func() error {
		if err != nil {
			return err
		}
		_, werr := f.Write(block)
		return werr
	}
}

func hoardMemfd() func() error {
	fd, err := unix.MemfdCreate("hoard", unix.MFD_CLOEXEC)
	return hoardFile(os.NewFile(uintptr(fd), "hoard"), err)
}

// fill writes to a descriptor that does not block, up to what is left of a MiB.
func fill(fd int, left *int) error {
	block := make([]byte, min(*left, 64<<10))
	for *left > 0 {
		n, err := unix.Write(fd, block[:min(len(block), *left)])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		if err != nil {
			return err
		}
		*left -= n
	}
	return nil
}

// hoardFull makes one after the other and fills each.
func hoardFull(open func() ([]int, error)) func() error {
	return func() error {
		for left := mib; left > 0; {
			before := left
			fds, err := open()
			for _, fd := range fds {
				if err == nil {
					err = fill(fd, &left)
				}
			}
			if err == nil && left == before {
				err = unix.ENOSPC
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

func hoardPipes() func() error {
	return hoardFull(func() ([]int, error) {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			return nil, err
		}
		_, _ = unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, mib) // up to the user's share
		return p[1:], nil
	})
}

func hoardUnix() func() error {
	return hoardFull(func() ([]int, error) {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return p[:], err
	})
}

// hoardTCP sends to itself what it never reads. A connection always gets a
// little, so that one can go on: less than enough means that there is no more.
func hoardTCP() func() error {
	const enough, patience = 64 << 10, 50 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	var conns []net.Conn // held
	return func() error {
		for left := mib; left > 0 && err == nil; {
			out, derr := net.Dial("tcp", l.Addr().String())
			if derr != nil {
				return derr
			}
			in, aerr := l.Accept()
			if aerr != nil {
				return aerr
			}
			conns = append(conns, out, in)
			_ = out.SetWriteDeadline(time.Now().Add(patience))
			n, werr := out.Write(make([]byte, left))
			if left -= n; left > 0 && n < enough {
				return errors.Join(werr, unix.ENOSPC)
			}
		}
		return err
	}
}

func hoardUDP() func() error {
	out, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	block := make([]byte, 32<<10)
	return func() error {
		if err != nil {
			return err
		}
		// The kernel drops what does not fit: a socket gets less than its share.
		for left := mib; left > 0; {
			in, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			if err := unix.Bind(in, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return err
			}
			to, err := unix.Getsockname(in)
			if err != nil {
				return err
			}
			for range 4 {
				if err := unix.Sendto(out, block, 0, to); err != nil {
					return err
				}
			}
			n, err := unix.IoctlGetInt(in, unix.SIOCINQ)
			if err != nil || n == 0 {
				return unix.ENOSPC
			}
			left -= 4 * len(block)
		}
		return nil
	}
}

// hoardQueues leaves messages in System V queues.
func hoardQueues() func() error {
	type message struct {
		kind int64
		text [4096]byte
	}
	m := message{kind: 1}
	return func() error {
		for left := mib; left > 0; {
			id, _, e := unix.Syscall(unix.SYS_MSGGET, 0, 0o600|0o1000, 0) // IPC_PRIVATE, IPC_CREAT
			if e != 0 {
				return e
			}
			before := left
			for e == 0 && left > 0 {
				_, _, e = unix.Syscall6(unix.SYS_MSGSND, id, uintptr(unsafe.Pointer(&m)), unsafe.Sizeof(m.text), 0o4000, 0, 0) // IPC_NOWAIT
				if e == 0 {
					left -= len(m.text)
				}
			}
			if left == before {
				return e
			}
		}
		return nil
	}
}

// received is how much of the kernel's memory waits in a socket to be read.
func received(fd int) int {
	var mem [9]uint32
	n := uint32(unsafe.Sizeof(mem))
	_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&mem)), uintptr(unsafe.Pointer(&n)), 0)
	return int(mem[0])
}

// hoardSockets makes one socket after the other and has it hold what it can.
func hoardSockets(open func() (int, error), send func(fd int) error) func() error {
	return func() error {
		for left := mib; left > 0; {
			fd, err := open()
			if err != nil {
				return err
			}
			has := 0
			for grown := true; grown; {
				for range 64 { // what comes back may be a little late
					if err := send(fd); err != nil {
						return err
					}
				}
				now := received(fd)
				has, grown = max(has, now), now > has
			}
			if has == 0 {
				return unix.ENOSPC
			}
			left -= has
		}
		return nil
	}
}

// hoardNetlink asks for an interface, and does not read the answers.
func hoardNetlink() func() error {
	ask := make([]byte, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
	*(*unix.NlMsghdr)(unsafe.Pointer(&ask[0])) = unix.NlMsghdr{Len: uint32(len(ask)), Type: unix.RTM_GETLINK, Flags: unix.NLM_F_REQUEST}
	*(*unix.IfInfomsg)(unsafe.Pointer(&ask[unix.SizeofNlMsghdr])) = unix.IfInfomsg{Index: 1}
	return hoardSockets(func() (int, error) {
		return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	},
		func(fd int) error { return unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
}

// toNobody sends to a port where nobody listens, so that each packet comes back.
func toNobody(size int) func(fd int) error {
	packet := make([]byte, size)
	return func(fd int) error {
		err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
		if errors.Is(err, unix.ECONNREFUSED) { // of the one before
			return nil
		}
		return err
	}
}

func udpWith(level, option, value int) func() (int, error) {
	return func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.SetsockoptInt(fd, level, option, value)
		}
		return fd, err
	}
}

func hoardErrors() func() error {
	return hoardSockets(udpWith(unix.SOL_IP, unix.IP_RECVERR, 1), toNobody(1000))
}

func hoardStamps() func() error {
	return hoardSockets(udpWith(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_TX_SCHED), toNobody(8000))
}
