package rafttransport

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/transport"

	"github.com/hashicorp/raft"
)

// serveConn runs one peer's connection of class Raft.
func (t *Transport) serveConn(ctx context.Context, c *transport.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	slots := make(chan struct{}, streamsPerConn)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s, err := c.AcceptStream(ctx)
		if err != nil {
			return
		}
		if !t.track() {
			s.Abort()
			return
		}
		go func() {
			defer t.wg.Done()
			defer func() { <-slots }()
			t.serveStream(s)
		}()
	}
}

// serveStream reads requests ahead of their answers, so that raft finds the
// next one decoded when it is done with the last. The answers leave in order.
func (t *Transport) serveStream(s *transport.Stream) {
	defer context.AfterFunc(t.ctx, s.Abort)()
	defer s.Close()
	answers := make(chan chan raft.RPCResponse, t.cfg.InFlight)
	var wg sync.WaitGroup
	wg.Go(func() { t.writeAnswers(s, answers) })
	defer wg.Wait()
	defer close(answers)

	r := bufio.NewReaderSize(s, readBuffer)
	for {
		typ, body, err := readFrame(r)
		if err != nil {
			return
		}
		cmd, isHeartbeat, err := decodeRequest(typ, body, s.Conn().PeerNodeID())
		if err != nil {
			t.cfg.Logger.Warn("raft request refused", "peer", s.Conn().PeerNodeID(), "error", err)
			s.Abort()
			return
		}
		answer, ok := t.hand(s, raft.RPC{Command: cmd}, isHeartbeat)
		if !ok {
			return
		}
		select {
		case answers <- answer:
		case <-s.Context().Done():
			return
		}
	}
}

// hand gives a request to raft. It is withdrawn when the sender has given up,
// which cancels the stream, or when the connection or the transport ends.
func (t *Transport) hand(s *transport.Stream, rpc raft.RPC, isHeartbeat bool) (chan raft.RPCResponse, bool) {
	answer := make(chan raft.RPCResponse, 1) // raft never waits for us
	rpc.RespChan = answer
	if fast := t.heartbeat.Load(); isHeartbeat && fast != nil {
		(*fast)(rpc)
		return answer, true
	}
	select {
	case t.consume <- rpc:
		return answer, true
	case <-s.Context().Done():
	case <-t.ctx.Done():
	}
	return nil, false
}

func (t *Transport) writeAnswers(s *transport.Stream, answers <-chan chan raft.RPCResponse) {
	var buf []byte
	for a := range answers {
		if err := t.answer(s, a, &buf); err != nil {
			s.Abort() // ends the reader as well
			break
		}
	}
	for range answers { // the reader must not wait for us
	}
}

// answer waits for raft and writes what it says.
func (t *Transport) answer(s *transport.Stream, from <-chan raft.RPCResponse, buf *[]byte) error {
	var r raft.RPCResponse
	select {
	case r = <-from:
	case <-s.Context().Done():
		return context.Cause(s.Context())
	case <-t.ctx.Done():
		return raft.ErrTransportShutdown
	}
	b, err := finish(putResponse(begin(*buf, frameResponse), r))
	if err != nil {
		return err
	}
	*buf = b
	_ = s.SetWriteDeadline(time.Now().Add(t.cfg.Timeout))
	_, err = s.Write(b)
	return err
}

// decodeRequest takes a request apart and checks that it speaks for the node
// at the other end. A heartbeat is an AppendEntries with nothing but a term,
// as the library defines it.
func decodeRequest(typ byte, body []byte, peer string) (cmd any, isHeartbeat bool, err error) {
	r := &reader{b: body}
	var h raft.RPCHeader
	switch typ {
	case frameAppend:
		q := r.append()
		isHeartbeat = q.Term != 0 && len(q.Addr)+len(q.Leader) > 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 &&
			len(q.Entries) == 0 && q.LeaderCommitIndex == 0
		cmd, h = q, q.RPCHeader
	case frameVote:
		q := r.vote()
		cmd, h = q, q.RPCHeader
	case framePreVote:
		q := r.preVote()
		cmd, h = q, q.RPCHeader
	case frameTimeoutNow:
		q := &raft.TimeoutNowRequest{RPCHeader: r.header()}
		cmd, h = q, q.RPCHeader
	default:
		return nil, false, fmt.Errorf("%w: type %d is no request", ErrFrame, typ)
	}
	if r.err != nil {
		return nil, false, r.err
	}
	if err := checkSender(h, peer); err != nil {
		return nil, false, err
	}
	return cmd, isHeartbeat, nil
}

// checkSender refuses a request in another node's name.
func checkSender(h raft.RPCHeader, peer string) error {
	if string(h.ID) != peer {
		return fmt.Errorf("%w: the header says server %q, the certificate node %q", ErrFrame, h.ID, peer)
	}
	return nil
}
