package rafttransport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// defaultTimeout bounds one request and its answer. It covers a follower's
	// fsync that hangs for a moment; the disk watchdog acts long before.
	defaultTimeout = 2 * time.Second

	// defaultInFlight is how many AppendEntries may be unanswered in a
	// pipeline. Two overlap the preparation of the next request with the
	// flight of the last one. More only splits what would be one larger
	// request: 8 in flight made a disk with 5 ms fsync 2.7 times slower.
	defaultInFlight = 2
	maxInFlight     = 128

	// poolSize is how many idle streams are kept per peer: heartbeat, vote and
	// a retry run at a time.
	poolSize = 4

	// streamsPerConn bounds the requests of one peer that wait for raft. A
	// healthy peer has about five: replication, heartbeat, votes.
	streamsPerConn = 32
)

// Config says how a Transport is to be built.
type Config struct {
	// Mux carries the traffic. New registers handlers on it: call New before
	// Mux.Serve. The Mux stays the caller's.
	Mux *transport.Mux
	// LocalAddr is the address that peers know this node by.
	LocalAddr string
	// Resolve returns the present address of a node. nil, or false: the
	// address in raft's configuration is used. Nodes may come back with a new
	// address; their ID stays.
	Resolve func(nodeID string) (addr string, ok bool)
	// Timeout bounds a request and its answer. Default 2 s.
	Timeout time.Duration
	// InFlight is the number of unanswered AppendEntries in a pipeline: 2 to
	// 128, default 2; 1 switches pipelining off.
	InFlight int
	Logger   hclog.Logger // nil: none
}

// Transport is a raft.Transport. Its server IDs are node IDs.
type Transport struct {
	cfg       Config
	mux       *transport.Mux
	consume   chan raft.RPC
	heartbeat atomic.Pointer[func(raft.RPC)]

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	pool   map[poolKey][]*stream
}

// raft uses pre-vote only if the transport has it, and says nothing more than
// a log line if it has not.
var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
	_ raft.WithClose   = (*Transport)(nil)
)

// New makes a Transport and registers it on the Mux.
func New(cfg Config) (*Transport, error) {
	if cfg.Mux == nil || cfg.LocalAddr == "" {
		return nil, errors.New("rafttransport: a Mux and the local address are required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.InFlight == 0 {
		cfg.InFlight = defaultInFlight
	}
	if cfg.InFlight < 1 || cfg.InFlight > maxInFlight || cfg.Timeout < 0 {
		return nil, fmt.Errorf("rafttransport: %d requests in flight (want 1 to %d), timeout %v", cfg.InFlight, maxInFlight, cfg.Timeout)
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(string) (string, bool) { return "", false }
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	t := &Transport{
		cfg: cfg,
		mux: cfg.Mux,
		// Unbuffered: a request that raft has not taken can still be withdrawn
		// when its sender has given up.
		consume: make(chan raft.RPC),
		pool:    map[poolKey][]*stream{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background()) // the transport's own life
	cfg.Mux.Handle(transport.Raft, t.serveConn)
	cfg.Mux.HandleStream(transport.Bulk, transport.KindSnapshot, t.serveSnapshot)
	return t, nil
}

// Consumer returns the requests for raft.
func (t *Transport) Consumer() <-chan raft.RPC { return t.consume }

// LocalAddr returns the address that peers know this node by.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.cfg.LocalAddr) }

// EncodePeer returns the address as bytes.
func (t *Transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer is the inverse of EncodePeer.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler sets raft's fast path: heartbeats go there instead of
// into raft's main loop, which may be waiting for the disk.
func (t *Transport) SetHeartbeatHandler(cb func(raft.RPC)) { t.heartbeat.Store(&cb) }

// Close ends all streams and waits for their goroutines. The Mux lives on.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	pool := t.pool
	t.pool = nil
	t.mu.Unlock()
	t.cancel()
	for _, list := range pool {
		for _, s := range list {
			s.Abort()
		}
	}
	t.wg.Wait()
	return nil
}

// track counts a goroutine that is about to start, unless closed.
func (t *Transport) track() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.wg.Add(1)
	return true
}

// Inject hands raft a request as if a peer had sent it, and returns its
// answer. It is the hook for failover by evidence.
func (t *Transport) Inject(ctx context.Context, command any) (any, error) {
	ch := make(chan raft.RPCResponse, 1)
	select {
	case t.consume <- raft.RPC{Command: command, RespChan: ch}:
	case <-ctx.Done():
		return nil, fmt.Errorf("rafttransport: inject a %T: %w", command, context.Cause(ctx))
	case <-t.ctx.Done():
		return nil, raft.ErrTransportShutdown
	}
	select {
	case r := <-ch:
		return r.Response, r.Error
	case <-ctx.Done():
		return nil, fmt.Errorf("rafttransport: inject a %T: %w", command, context.Cause(ctx))
	case <-t.ctx.Done():
		return nil, raft.ErrTransportShutdown
	}
}

// InjectTimeoutNow makes this node's raft stand for election at once, without
// pre-vote and without waiting for its timers. Always safe in raft; a false
// alarm costs an election.
func (t *Transport) InjectTimeoutNow(ctx context.Context) error {
	_, err := t.Inject(ctx, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.mux.NodeID()), Addr: []byte(t.cfg.LocalAddr)}})
	return err
}
