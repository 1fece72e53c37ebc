package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// FreeAddr finds a loopback port that is free for UDP and TCP. It looks below
// the range from which the kernel takes ports for outgoing connections, so
// that a busy test cannot lose the port between this look and the node's bind.
func FreeAddr() (string, error) {
	const low, high = 20000, 32000
	for range 200 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(low+rand.IntN(high-low)))
		t, err := net.Listen("tcp4", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp4", addr)
		_ = t.Close()
		if err != nil {
			continue
		}
		_ = u.Close()
		return addr, nil
	}
	return "", fmt.Errorf("no port from %d to %d of 127.0.0.1 is free for both UDP and TCP", low, high)
}
