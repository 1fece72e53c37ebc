package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var (
	errTimeout = errors.New("simulated raft transport: timed out")
	errRefused = errors.New("simulated raft transport: refused")
)

// raftEnd is one process's raft transport. Without pipelining: each
// AppendEntries waits for its answer.
type raftEnd struct {
	w        *World
	p        *proc
	timeout  time.Duration
	consumer chan raft.RPC
	ctx      context.Context
	cancel   context.CancelFunc

	mu   sync.Mutex
	beat func(raft.RPC) // guarded by mu
}

var (
	_ raft.Transport   = (*raftEnd)(nil)
	_ raft.WithPreVote = (*raftEnd)(nil)
)

func newRaftEnd(p *proc, timeout time.Duration) *raftEnd {
	t := &raftEnd{w: p.host.w, p: p, timeout: timeout, consumer: make(chan raft.RPC)}
	t.ctx, t.cancel = context.WithCancel(p.host.w.ctx)
	return t
}

// Cut implements consensus.Cutter: the peers learn at once.
func (t *raftEnd) Cut(string) {
	t.cancel()
	t.p.host.w.group.Go(func() { t.p.host.w.tell(t.p, evidenceClosed) })
}

// call sends one request and waits for its answer.
func (t *raftEnd) call(target string, req func() any, body []byte) (any, error) {
	timeout := t.timeout
	if body != nil {
		timeout *= 10
	}
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	if t.w.net.duplicates() {
		t.w.group.Go(func() { _, _ = t.deliver(t.ctx, target, req(), body) })
	}
	type answer struct {
		response any
		err      error
	}
	ch := make(chan answer, 1)
	// The request outlives the sender's patience for a while, as one does that
	// was on its way when the sender gave up.
	late, stop := context.WithTimeout(t.ctx, 2*timeout)
	t.w.group.Go(func() {
		defer stop()
		r, err := t.deliver(late, target, req(), body)
		ch <- answer{r, err}
	})
	select {
	case a := <-ch:
		return a.response, a.err
	case <-ctx.Done():
		return nil, errTimeout
	}
}

// deliver brings a request to a process and its answer back.
func (t *raftEnd) deliver(ctx context.Context, target string, req any, body []byte) (any, error) {
	from := t.p.host.id
	if err := t.w.net.cross(ctx, from, target); err != nil {
		return nil, err
	}
	to := t.w.running(target)
	if to == nil {
		if t.w.isOff(target) {
			<-ctx.Done()
			return nil, errTimeout
		}
		if err := t.w.net.cross(ctx, target, from); err != nil {
			return nil, err
		}
		return nil, errRefused
	}
	response, err := to.raftEnd.handle(ctx, req, body)
	if lost := t.w.net.cross(ctx, target, from); lost != nil {
		return nil, lost
	}
	return response, err
}

// handle hands a request to raft here.
func (t *raftEnd) handle(ctx context.Context, req any, body []byte) (any, error) {
	ch := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: req, RespChan: ch}
	if body != nil {
		rpc.Reader = bytes.NewReader(body)
	}
	t.mu.Lock()
	beat := t.beat
	t.mu.Unlock()
	if ae, ok := req.(*raft.AppendEntriesRequest); ok && beat != nil && t.ctx.Err() == nil &&
		len(ae.Entries) == 0 && ae.PrevLogEntry == 0 && ae.LeaderCommitIndex == 0 {
		t.w.group.Go(func() { beat(rpc) }) // as the transport's reading goroutine would
	} else {
		select {
		case t.consumer <- rpc:
		case <-t.ctx.Done():
			return nil, errRefused
		case <-ctx.Done():
			return nil, errTimeout
		}
	}
	select {
	case r := <-ch:
		t.p.disk.mu.Lock()
		wiped := t.p.disk.wiped
		t.p.disk.mu.Unlock()
		if v, ok := r.Response.(*raft.RequestVoteResponse); ok && v.Granted && wiped {
			t.w.problem("emptied voter", "%s votes in term %d and has lost what it promised before", t.p.host.id, v.Term)
		}
		return r.Response, r.Error
	case <-t.ctx.Done():
		return nil, errRefused
	case <-ctx.Done():
		return nil, errTimeout
	}
}

func exchange[Req, Resp any](t *raftEnd, target raft.ServerAddress, args *Req, body []byte, resp *Resp) error {
	fresh := func() any { own := *args; return &own } // raft uses its request again, also when we have timed out
	own := fresh().(*Req)                             //nolint:forcetypeassert // just made
	answer, err := t.call(string(target), func() any { again := *own; return &again }, body)
	if err != nil {
		return err
	}
	r, ok := answer.(*Resp)
	if !ok {
		return fmt.Errorf("simulated raft transport: answer to %T is a %T", args, answer)
	}
	*resp = *r
	return nil
}

// Consumer implements raft.Transport, as the others below.
func (t *raftEnd) Consumer() <-chan raft.RPC { return t.consumer }

// LocalAddr is the machine's name: it has one address.
func (t *raftEnd) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.p.host.id) }

// AppendEntriesPipeline says that there is none.
func (t *raftEnd) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries sends entries, or a heartbeat.
func (t *raftEnd) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return exchange(t, target, args, nil, resp)
}

// RequestVote asks for a vote.
func (t *raftEnd) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return exchange(t, target, args, nil, resp)
}

// RequestPreVote asks whether it would get one.
func (t *raftEnd) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return exchange(t, target, args, nil, resp)
}

// InstallSnapshot sends a snapshot, read whole before.
func (t *raftEnd) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	body, err := io.ReadAll(data)
	if err != nil {
		return fmt.Errorf("simulated raft transport: read the snapshot: %w", err)
	}
	t.w.count("snapshot sent")
	return exchange(t, target, args, body, resp)
}

// TimeoutNow asks for an election at once.
func (t *raftEnd) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return exchange(t, target, args, nil, resp)
}

// EncodePeer is the address itself.
func (t *raftEnd) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer is its inverse.
func (t *raftEnd) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler takes the quick way for heartbeats.
func (t *raftEnd) SetHeartbeatHandler(cb func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.beat = cb
}
