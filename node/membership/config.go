package membership

import (
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

const (
	// Measured with five nodes: a dead node is known to all in 0.7 to 0.9 s when
	// news travels every 50 ms, in 0.7 to 1.1 s when it does every 200 ms: the
	// probes decide. Between the two, for ten wake-ups a second less.
	probeInterval  = 200 * time.Millisecond
	probeTimeout   = 100 * time.Millisecond
	gossipInterval = 100 * time.Millisecond
	suspicionMult  = 2

	// packetBytes stays under the smallest QUIC datagram (1,230 bytes before
	// the path's MTU is known).
	packetBytes = 1150
	// streamTimeout bounds a join; it also bounds how long Close can wait for one.
	streamTimeout = 2 * time.Second
	// reclaimAfter lets a node that was declared dead come back at another
	// address at once; zero would mean never.
	reclaimAfter = time.Millisecond
	// pushPull is the full exchange that repairs what gossip missed.
	pushPull = 10 * time.Second

	// DefaultRejoin is the pause between rejoins; see doc.go. The first
	// firstRejoins go to everybody, a second apart.
	DefaultRejoin  = 3 * time.Second
	firstRejoin    = time.Second
	firstRejoins   = 5
	maxMetaBytes   = memberlist.MetaMaxSize
	maxRemembered  = 10_000 // nodes, as many as the state admits
	maxQueuedEvent = 4 * maxRemembered
)

// ErrMetaTooLong means that a node's description does not fit into gossip.
var ErrMetaTooLong = errors.New("the node's description is too long for gossip")

// Meta is what a node says of itself. Encoded it has at most 512 bytes.
type Meta struct {
	Addr        string `cbor:"1,keyasint"`           // host:port
	Name        string `cbor:"2,keyasint,omitempty"` // for people
	Version     string `cbor:"3,keyasint,omitempty"`
	Incarnation uint64 `cbor:"4,keyasint,omitempty"` // one per start of the process
	Voter       bool   `cbor:"5,keyasint,omitempty"` // a hint: the raft configuration decides
	Leaving     bool   `cbor:"6,keyasint,omitempty"` // set by Close
}

func (m Meta) encode() ([]byte, error) {
	b, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the node's description: %w", err)
	}
	if len(b) > maxMetaBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d; shorten the node's name", ErrMetaTooLong, len(b), maxMetaBytes)
	}
	return b, nil
}

// leaving is the last description of a node that says goodbye.
func (m Meta) leaving() ([]byte, error) {
	m.Leaving = true
	return m.encode()
}

// decodeMeta reads a peer's description; a broken one reads as empty, because
// gossip must not depend on what a peer says.
func decodeMeta(b []byte) (m Meta) {
	if len(b) > maxMetaBytes || cbor.Unmarshal(b, &m) != nil {
		return Meta{}
	}
	return m
}

// Peer is a node that should be there.
type Peer struct{ ID, Addr string }

// Member is a node as gossip sees it.
type Member struct {
	ID    string
	Addr  string // host:port that it was last seen at
	Meta  Meta
	Alive bool
	Left  bool      // not alive because it said goodbye
	Since time.Time // when Alive last changed
}

// Config is what a Membership needs. ID, Meta and Transport are required.
type Config struct {
	ID        string
	Meta      Meta
	Transport memberlist.Transport
	Peers     func() []Peer        // who should be there; nil = nobody
	Allowed   func(id string) bool // false for removed nodes; must not block; nil = everybody
	// OnChange hears of every node that came, changed or went; OnDead of every
	// node that gossip declared dead, with the number of confirmations: 1 if
	// our own ping failed as well, else 0. Both are called from one goroutine.
	OnChange func(Member)
	OnDead   func(m Member, confirmations int)
	Rejoin   time.Duration // 0 = DefaultRejoin
	Now      func() time.Time
	Logger   hclog.Logger
}

func (c Config) withDefaults() Config {
	if c.Peers == nil {
		c.Peers = func() []Peer { return nil }
	}
	if c.Allowed == nil {
		c.Allowed = func(string) bool { return true }
	}
	if c.OnChange == nil {
		c.OnChange = func(Member) {}
	}
	if c.OnDead == nil {
		c.OnDead = func(Member, int) {}
	}
	if c.Rejoin <= 0 {
		c.Rejoin = DefaultRejoin
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

func (c Config) memberlist(d *delegate) *memberlist.Config {
	conf := memberlist.DefaultLANConfig()
	conf.Name = c.ID
	conf.Transport = c.Transport
	conf.ProbeInterval, conf.ProbeTimeout = probeInterval, probeTimeout
	conf.GossipInterval = gossipInterval
	conf.SuspicionMult, conf.SuspicionMaxTimeoutMult = suspicionMult, suspicionMult
	conf.PushPullInterval = pushPull
	conf.TCPTimeout = streamTimeout
	conf.DeadNodeReclaimTime = reclaimAfter
	conf.RequireNodeNames = true
	conf.UDPBufferSize = packetBytes
	conf.Delegate, conf.Events, conf.Alive = d, d, d
	conf.Logger = c.Logger.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true})
	return conf
}
