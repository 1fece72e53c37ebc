package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// wantReceiveBuffer is what quic-go asks the kernel for (7 MiB): a burst of a
// snapshot at 10 Gb/s for the few milliseconds that the reader may be late.
const wantReceiveBuffer = 7 << 20

func listenUDP(addr string) (*net.UDPConn, error) {
	ua, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("transport: listen on %q: %w", addr, err)
	}
	pc, err := net.ListenUDP("udp", ua)
	if err != nil {
		return nil, fmt.Errorf("transport: listen on UDP %s: %w", addr, err)
	}
	return pc, nil
}

// ReceiveBufferWarning returns a message for the operator when the kernel gave
// the socket a smaller receive buffer than bursts need, otherwise "". A root
// process gets the size by force; others are bound by net.core.rmem_max. Call
// it once the Mux serves.
func (m *Mux) ReceiveBufferWarning() string {
	sc, ok := m.pc.(syscall.Conn)
	if !ok {
		return "" // not a kernel socket
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return ""
	}
	var got int
	var gerr error
	if err := raw.Control(func(fd uintptr) {
		got, gerr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	}); err != nil || gerr != nil {
		return ""
	}
	// Linux reports twice what was set: it counts its own bookkeeping.
	if got/2 >= wantReceiveBuffer {
		return ""
	}
	return fmt.Sprintf("the UDP receive buffer is %d KiB, %d KiB wanted: bursts will be lost and sent again; "+
		"set sysctl net.core.rmem_max=%d", got/2>>10, wantReceiveBuffer>>10, wantReceiveBuffer)
}

// resolve turns "host:port" into an address that our socket can send to.
func (m *Mux) resolve(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("transport: address %q: %w", addr, err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		return nil, fmt.Errorf("transport: address %q: port %q is not one of 1 to 65535", addr, port)
	}
	ips := []netip.Addr{}
	if ip, err := netip.ParseAddr(host); err == nil {
		ips = append(ips, ip)
	} else if ips, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("transport: address %q: %w", addr, err)
	}
	only4 := false
	if la, ok := m.Addr().(*net.UDPAddr); ok {
		only4 = la.IP.To4() != nil
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() || !only4 {
			return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(p))), nil
		}
	}
	return nil, fmt.Errorf("transport: address %q has no IPv4 address and this node listens on IPv4 only", addr)
}
