package transport

import "fmt"

// Class says what a connection carries.
type Class uint8

// The classes. Raft, Gossip, RPC and Bulk are between nodes and demand a
// certificate of both sides. Join and Client demand none of the dialler: their
// handlers authenticate each request by other means (a join token, an API
// key).
const (
	Raft   Class = iota + 1 // votes, heartbeats, log entries
	Gossip                  // membership: datagrams and push/pull streams
	RPC                     // forwarded requests, worker protocol
	Bulk                    // snapshots and blobs: may fill its connection
	Join                    // a new node asks for its certificate
	Client                  // the SDK's pipelined requests
)

// Kinds of streams on class Bulk, for HandleStream and OpenKind.
const (
	KindSnapshot byte = 1 // raft's, see package rafttransport
	KindBlob     byte = 2 // outputs and inputs of tasks
)

// alpn names are on the wire: a change is a new protocol version.
var alpn = map[Class]string{
	Raft:   "holdfast-raft/1",
	Gossip: "holdfast-gossip/1",
	RPC:    "holdfast-rpc/1",
	Bulk:   "holdfast-bulk/1",
	Join:   "holdfast-join/1",
	Client: "holdfast-client/1",
}

// ALPN returns the protocol name of c on the wire, or "" for an unknown class.
func (c Class) ALPN() string { return alpn[c] }

// Mutual tells whether both sides of a connection of this class must present a
// node's certificate.
func (c Class) Mutual() bool { return c == Raft || c == Gossip || c == RPC || c == Bulk }

// String returns the class's name for messages and metrics.
func (c Class) String() string {
	switch c {
	case Raft:
		return "raft"
	case Gossip:
		return "gossip"
	case RPC:
		return "rpc"
	case Bulk:
		return "bulk"
	case Join:
		return "join"
	case Client:
		return "client"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

func classOf(proto string) (Class, bool) {
	for c, p := range alpn {
		if p == proto {
			return c, true
		}
	}
	return 0, false
}
