package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// mtu is that of an Ethernet.
const mtu = 1500

// Port is one host of the network.
type Port struct {
	Name string
	Addr netip.Addr

	ns  *os.File // its network namespace; nil for this process's own
	tun *os.File
}

// openPort makes a TUN device, in a new namespace or in that of this process.
func openPort(name string, addr netip.Addr, here bool) (*Port, error) {
	p := &Port{Name: name, Addr: addr}
	made := make(chan error)
	go func() {
		// A thread that is in another namespace must not be used again: it
		// stays locked and ends with the goroutine.
		runtime.LockOSThread()
		if here {
			defer runtime.UnlockOSThread()
		}
		made <- p.open(here)
	}()
	if err := <-made; err != nil {
		return nil, errors.Join(fmt.Errorf("make host %s of the network: %w", name, err), p.close())
	}
	return p, nil
}

func (p *Port) open(here bool) error {
	if !here {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace (needs root): %w", err)
		}
		ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		if err != nil {
			return err
		}
		p.ns = ns
		if err := linkUp("lo", netip.Addr{}); err != nil {
			return err
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	const device = "chaos0"
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return errors.Join(fmt.Errorf("make a TUN device: %w", err), unix.Close(fd))
	}
	// Only now: an idle TUN cannot be polled.
	p.tun = os.NewFile(uintptr(fd), device)
	return linkUp(device, p.Addr)
}

// linkUp gives a device of the thread's namespace its address in a /24, if
// any, and brings it up. No program of another package is needed for that.
func linkUp(device string, addr netip.Addr) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	set := func(what string, req uint, fill func(*unix.Ifreq) error) error {
		ifr, err := unix.NewIfreq(device)
		if err == nil {
			err = fill(ifr)
		}
		if err == nil {
			err = unix.IoctlIfreq(s, req, ifr)
		}
		if err != nil {
			return fmt.Errorf("%s of %s: %w", what, device, err)
		}
		return nil
	}
	if addr.IsValid() {
		a := addr.As4()
		err := errors.Join(
			set("MTU", unix.SIOCSIFMTU, func(i *unix.Ifreq) error { i.SetUint32(mtu); return nil }),
			set("address", unix.SIOCSIFADDR, func(i *unix.Ifreq) error { return i.SetInet4Addr(a[:]) }),
			set("netmask", unix.SIOCSIFNETMASK, func(i *unix.Ifreq) error { return i.SetInet4Addr([]byte{255, 255, 255, 0}) }),
		)
		if err != nil {
			return err
		}
	}
	return set("state", unix.SIOCSIFFLAGS, func(i *unix.Ifreq) error { i.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil })
}

// LoopbackUp brings up the loopback of this process's namespace, if it is
// down, as it is in a new one.
func LoopbackUp() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return linkUp("lo", netip.Addr{})
}

// Namespace is a path to the port's namespace, good as long as this process
// lives and the switch is open; empty for this process's own.
func (p *Port) Namespace() string {
	if p.ns == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns.Fd())
}

func (p *Port) close() error {
	var errs []error
	for _, f := range []*os.File{p.tun, p.ns} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
