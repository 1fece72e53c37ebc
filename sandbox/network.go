package sandbox

import "golang.org/x/sys/unix"

// Network is what a command can reach. Each sandbox has a network namespace of
// its own, whatever the class. A class with a way out would pass the command a
// descriptor of the node's proxy beside its streams, and need no interface
// either.
type Network string

// The classes.
const (
	// NetworkLoopback has an interface lo that is up: servers and clients of one
	// command find each other.
	NetworkLoopback Network = "loopback"
	// NetworkNone has lo down, so that no packet goes anywhere, and Landlock as a
	// second wall where the kernel has it: no TCP port can be bound or dialled.
	// That wall knows neither UDP nor multipath TCP.
	NetworkNone Network = "none"
)

// landlockNet is from which ABI of Landlock on there are rules of TCP ports.
const landlockNet = 4

// deniedNetwork is what Landlock denies. Its rules do not tell a host from the
// loopback of the sandbox's own namespace, so that they suit one class alone.
func (n Network) deniedNetwork(abi int) uint64 {
	if n != NetworkNone || abi < landlockNet {
		return 0
	}
	return unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
}
