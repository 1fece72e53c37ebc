// Package memtransport is a raft transport in memory for simulations: a network
// of nodes in one process, with latency, partitions, and a hook that decides
// the fate of every message. All its waiting is on timers and channels, so it
// runs under testing/synctest.
//
// Messages are not copied deeply: entries are shared between the nodes of a
// simulation, and nobody may change them.
package memtransport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Fate is what becomes of one message.
type Fate uint8

// The fates.
const (
	Deliver   Fate = iota
	Drop           // the sender waits for its time-out; the receiver sees nothing
	DropReply      // the receiver handles it, the sender waits for its time-out
	Refuse         // the sender gets an error at once
	Swallow        // the sender waits until the network closes
)

// Message is one request under way.
type Message struct {
	From, To raft.ServerAddress
	Request  any // a pointer to one of raft's requests
}

// Network connects the transports that join it.
type Network struct {
	// Timeout is how long a sender waits for an answer.
	Timeout time.Duration
	// Latency delays each request and each answer.
	Latency time.Duration

	mu      sync.Mutex
	nodes   map[raft.ServerAddress]*Transport // guarded by mu
	fate    func(Message) Fate                // guarded by mu
	island  map[raft.ServerAddress]int        // guarded by mu; nil when whole
	closing chan struct{}
	once    sync.Once
}

// New returns a whole network.
func New(timeout, latency time.Duration) *Network {
	return &Network{Timeout: timeout, Latency: latency, nodes: map[raft.ServerAddress]*Transport{}, closing: make(chan struct{})}
}

// Join returns the transport of a node, which takes the place of an earlier one
// with the same address.
func (n *Network) Join(addr raft.ServerAddress) *Transport {
	t := &Transport{net: n, addr: addr, consumer: make(chan raft.RPC), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[addr] = t
	return t
}

// SetFate installs a hook that decides about every message that no partition
// stops; nil delivers. It runs on the senders' goroutines.
func (n *Network) SetFate(f func(Message) Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fate = f
}

// Partition splits the network into groups; nodes of different groups, and
// nodes in none, lose each other's messages.
func (n *Network) Partition(groups ...[]raft.ServerAddress) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.island = map[raft.ServerAddress]int{}
	for i, g := range groups {
		for _, a := range g {
			n.island[a] = i + 1
		}
	}
}

// Heal ends the partition.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.island = nil
}

// Close frees every sender that waits.
func (n *Network) Close() { n.once.Do(func() { close(n.closing) }) }

var (
	errTimeout = errors.New("memtransport: timed out")
	errRefused = errors.New("memtransport: connection refused")
)

func (n *Network) route(m Message) (*Transport, Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.island != nil && (n.island[m.From] == 0 || n.island[m.From] != n.island[m.To]) {
		return nil, Drop
	}
	fate := Deliver
	if n.fate != nil {
		fate = n.fate(m)
	}
	to := n.nodes[m.To]
	if to == nil && fate == Deliver {
		fate = Refuse
	}
	return to, fate
}

// call sends one request and waits for its answer.
func (n *Network) call(from *Transport, target raft.ServerAddress, req any, body io.Reader) (any, error) {
	if from.isClosed() {
		return nil, errRefused
	}
	timeout := n.Timeout
	if body != nil {
		timeout *= 10
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	lose := func() (any, error) {
		select {
		case <-timer.C:
		case <-n.closing:
		}
		return nil, fmt.Errorf("%w: %T from %s to %s", errTimeout, req, from.addr, target)
	}
	to, fate := n.route(Message{from.addr, target, req})
	switch fate {
	case Drop:
		return lose()
	case Refuse:
		return nil, errRefused
	case Swallow:
		<-n.closing
		return nil, errRefused
	}
	n.delay()
	answer, err := to.handle(req, body, timer.C)
	if errors.Is(err, errTimeout) {
		return nil, err
	}
	if _, back := n.route(Message{target, from.addr, answer}); fate == DropReply || back == Drop {
		return lose()
	}
	n.delay()
	return answer, err
}

func (n *Network) delay() {
	if n.Latency > 0 {
		time.Sleep(n.Latency)
	}
}

// Transport is one node's end.
type Transport struct {
	net      *Network
	addr     raft.ServerAddress
	consumer chan raft.RPC

	mu        sync.Mutex
	heartbeat func(raft.RPC) // guarded by mu
	closed    chan struct{}
	once      sync.Once
}

var (
	_ raft.Transport   = (*Transport)(nil)
	_ raft.WithPreVote = (*Transport)(nil)
)

// Close makes the node unreachable: senders are refused at once.
func (t *Transport) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// Cut implements consensus.Cutter.
func (t *Transport) Cut(string) { _ = t.Close() }

func (t *Transport) isClosed() bool {
	select {
	case <-t.closed:
		return true
	default:
		return false
	}
}

// handle hands a request to raft here.
func (t *Transport) handle(req any, body io.Reader, timeout <-chan time.Time) (any, error) {
	ch := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: req, Reader: body, RespChan: ch}
	t.mu.Lock()
	beat := t.heartbeat
	t.mu.Unlock()
	if ae, ok := req.(*raft.AppendEntriesRequest); ok && beat != nil && !t.isClosed() &&
		len(ae.Entries) == 0 && ae.PrevLogEntry == 0 && ae.LeaderCommitIndex == 0 {
		go beat(rpc) // as a transport's reading goroutine would
	} else {
		select {
		case t.consumer <- rpc:
		case <-t.closed:
			return nil, errRefused
		case <-timeout:
			return nil, errTimeout
		}
	}
	select {
	case r := <-ch:
		return r.Response, r.Error
	case <-t.closed:
		return nil, errRefused
	case <-timeout:
		return nil, errTimeout
	}
}

func exchange[Resp any](t *Transport, target raft.ServerAddress, req any, body io.Reader, resp *Resp) error {
	answer, err := t.net.call(t, target, req, body)
	if err != nil {
		return err
	}
	r, ok := answer.(*Resp)
	if !ok {
		return fmt.Errorf("memtransport: answer to %T is a %T", req, answer)
	}
	*resp = *r
	return nil
}

// Consumer implements raft.Transport.
func (t *Transport) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr implements raft.Transport.
func (t *Transport) LocalAddr() raft.ServerAddress { return t.addr }

// AppendEntriesPipeline implements raft.Transport: there is none.
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *Transport) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	own := *args // raft uses its request again, also when we have timed out
	return exchange(t, target, &own, nil, resp)
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return exchange(t, target, args, nil, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return exchange(t, target, args, nil, resp)
}

// InstallSnapshot implements raft.Transport. The body is read whole before it
// is sent, so that a sender that gives up does not share it with the receiver.
func (t *Transport) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	body, err := io.ReadAll(data)
	if err != nil {
		return fmt.Errorf("memtransport: read the snapshot: %w", err)
	}
	return exchange(t, target, args, bytes.NewReader(body), resp)
}

// TimeoutNow implements raft.Transport.
func (t *Transport) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return exchange(t, target, args, nil, resp)
}

// EncodePeer implements raft.Transport.
func (t *Transport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (t *Transport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (t *Transport) SetHeartbeatHandler(cb func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = cb
}
