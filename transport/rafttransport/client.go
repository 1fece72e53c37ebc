package rafttransport

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/raft"
)

// poolKey names a peer at an address.
type poolKey struct{ id, addr string }

// stream is a stream with its buffers. One goroutine at a time owns it.
type stream struct {
	*transport.Stream
	key  poolKey
	r    *bufio.Reader
	wbuf []byte
}

const (
	readBuffer = 16 << 10
	// keepBuffer bounds the write buffer that an idle stream holds on to.
	keepBuffer = 1 << 20
)

func (t *Transport) keyOf(id raft.ServerID, target raft.ServerAddress) poolKey {
	if addr, ok := t.cfg.Resolve(string(id)); ok {
		return poolKey{string(id), addr}
	}
	return poolKey{string(id), string(target)}
}

// get returns a stream with nothing in flight.
func (t *Transport) get(k poolKey) (*stream, error) {
	current := t.mux.Peek(k.addr, transport.Raft, k.id)
	for {
		t.mu.Lock()
		list := t.pool[k]
		if len(list) == 0 {
			t.mu.Unlock()
			return t.open(k)
		}
		s := list[len(list)-1]
		t.pool[k] = list[:len(list)-1]
		t.mu.Unlock()
		// A stream on a connection that was replaced would end with it.
		if s.Conn() == current {
			return s, nil
		}
		s.Abort()
	}
}

func (t *Transport) open(k poolKey) (*stream, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Timeout)
	defer cancel()
	c, err := t.mux.Dial(ctx, k.addr, transport.Raft, k.id)
	if err != nil {
		return nil, err
	}
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return &stream{Stream: s, key: k, r: bufio.NewReaderSize(s, readBuffer)}, nil
}

func (t *Transport) put(s *stream) {
	if cap(s.wbuf) > keepBuffer {
		s.wbuf = nil
	}
	t.mu.Lock()
	keep := !t.closed && len(t.pool[s.key]) < poolSize
	if keep {
		t.pool[s.key] = append(t.pool[s.key], s)
	}
	t.mu.Unlock()
	if !keep {
		_ = s.Close()
	}
}

// send writes one frame.
func (s *stream) send(typ byte, enc func([]byte) []byte) error {
	b, err := finish(enc(begin(s.wbuf, typ)))
	if err != nil {
		return err
	}
	s.wbuf = b
	_, err = s.Write(b)
	return err
}

// receive reads one response into resp.
func (s *stream) receive(resp any) error {
	typ, body, err := readFrame(s.r)
	if err != nil {
		return err
	}
	if typ != frameResponse {
		return fmt.Errorf("%w: type %d, want a response", ErrFrame, typ)
	}
	return takeResponse(body, resp)
}

// call makes one request on a stream of its own.
func (t *Transport) call(id raft.ServerID, target raft.ServerAddress, what string, typ byte, enc func([]byte) []byte, resp any) error {
	k := t.keyOf(id, target)
	s, err := t.get(k)
	if err != nil {
		return fmt.Errorf("%s to %s: %w", what, id, err)
	}
	s.Urgent()
	_ = s.SetDeadline(time.Now().Add(t.cfg.Timeout)) // cannot fail on an open stream
	stop := context.AfterFunc(t.ctx, s.Abort)
	defer stop()
	err = s.send(typ, enc)
	if err == nil {
		err = s.receive(resp)
	}
	if _, answered := err.(*RemoteError); err != nil && !answered {
		s.Abort()
		return fmt.Errorf("%s to %s at %s: %w", what, id, k.addr, err)
	}
	_ = s.SetDeadline(time.Time{})
	t.put(s)
	return err
}

// trim cuts a request whose entries would make too large a frame. The library
// goes on from the last entry that req holds after the call, so the rest
// follows in the next request.
func trim(q *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range q.Entries {
		size += len(e.Data) + len(e.Extensions) + entryOverhead
		if size > softFrame && i > 0 {
			q.Entries = q.Entries[:i]
			return
		}
	}
}

// AppendEntries sends one request. It may shorten args.Entries, see trim.
func (t *Transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	trim(args)
	return t.call(id, target, "append entries", frameAppend, func(b []byte) []byte { return putAppend(b, args) }, resp)
}

// RequestVote sends one request.
func (t *Transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.call(id, target, "request vote", frameVote, func(b []byte) []byte { return putVote(b, args) }, resp)
}

// RequestPreVote sends one request.
func (t *Transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.call(id, target, "request pre-vote", framePreVote, func(b []byte) []byte { return putPreVote(b, args) }, resp)
}

// TimeoutNow sends one request.
func (t *Transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.call(id, target, "timeout now", frameTimeoutNow, func(b []byte) []byte { return putHeader(b, args.RPCHeader) }, resp)
}
