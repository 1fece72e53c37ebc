package rafttransport

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pipeline sends AppendEntries without waiting for the answers.
//
// The library's own pipeline can wedge (hashicorp/raft issue 612). When the
// follower answers Success=false, raft's decoder leaves and nobody reads
// Consumer any more; if raft's sender then picks its trigger rather than the
// decoder's end, it calls AppendEntries once more. With unbuffered channels
// that call waits for the reader of answers, which waits for Consumer, and the
// Close that would free both is deferred behind the call. Heartbeats go on, so
// the follower never recovers.
//
// Here: the pipeline knows which answers make raft's decoder leave (an error,
// no success, a newer term). It delivers such an answer and then ends itself,
// so that a later AppendEntries fails at once. And no wait is without a bound,
// whatever the reason for which raft stops reading.
type pipeline struct {
	t *Transport
	s *stream

	slots   chan struct{} // one per request without answer
	pending chan *future  // sent, in order; never full, see slots
	done    chan raft.AppendFuture
	stop    chan struct{}
	once    sync.Once
}

// AppendEntriesPipeline opens a pipeline.
func (t *Transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	n := t.cfg.InFlight
	if n < 2 {
		return nil, raft.ErrPipelineReplicationNotSupported
	}
	s, err := t.open(t.keyOf(id, target))
	if err != nil {
		return nil, err
	}
	if !t.track() {
		s.Abort()
		return nil, raft.ErrTransportShutdown
	}
	p := &pipeline{t: t, s: s,
		slots: make(chan struct{}, n), pending: make(chan *future, n), done: make(chan raft.AppendFuture, n),
		stop: make(chan struct{})}
	go p.read()
	return p, nil
}

// AppendEntries sends a request, waiting for a free slot. Only raft's sender
// calls it. It may shorten req.Entries, see trim.
func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	f := &future{start: time.Now(), req: req, resp: resp, ready: make(chan struct{})}
	if err := p.reserve(); err != nil {
		return nil, err
	}
	trim(req)
	_ = p.s.SetWriteDeadline(time.Now().Add(p.t.cfg.Timeout))
	if err := p.s.send(frameAppend, func(b []byte) []byte { return putAppend(b, req) }); err != nil {
		p.end()
		return nil, err
	}
	if cap(p.s.wbuf) > keepBuffer {
		p.s.wbuf = nil
	}
	p.pending <- f
	return f, nil
}

// reserve takes a slot. An ended pipeline is refused even if one is free.
func (p *pipeline) reserve() error {
	select {
	case <-p.stop:
		return raft.ErrPipelineShutdown
	default:
	}
	timer := time.NewTimer(p.t.cfg.Timeout)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.stop:
	case <-timer.C: // nobody reads the answers
		p.end()
	}
	return raft.ErrPipelineShutdown
}

// Consumer returns the answered requests, in order.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

// Close ends the pipeline; requests in flight fail.
func (p *pipeline) Close() error {
	p.end()
	return nil
}

func (p *pipeline) end() {
	p.once.Do(func() {
		close(p.stop)
		p.s.Abort()
	})
}

// read takes the answers from the stream.
func (p *pipeline) read() {
	defer p.t.wg.Done()
	defer context.AfterFunc(p.t.ctx, p.end)()
	defer p.failPending()
	defer p.end()
	for {
		var f *future
		select {
		case f = <-p.pending:
		case <-p.stop:
			return
		}
		_ = p.s.SetReadDeadline(time.Now().Add(p.t.cfg.Timeout))
		f.finish(p.s.receive(f.resp))
		<-p.slots
		if !p.deliver(f) || f.err != nil || !f.resp.Success || f.resp.Term > f.req.Term {
			return
		}
	}
}

func (p *pipeline) deliver(f *future) bool {
	timer := time.NewTimer(p.t.cfg.Timeout)
	defer timer.Stop()
	select {
	case p.done <- f:
		return true
	case <-p.stop:
	case <-timer.C: // nobody reads the answers
	}
	return false
}

// failPending answers what will get no answer. A request that AppendEntries is
// just filing may stay unanswered: raft does not wait for futures.
func (p *pipeline) failPending() {
	for {
		select {
		case f := <-p.pending:
			f.finish(raft.ErrPipelineShutdown)
		default:
			return
		}
	}
}

// future is one request of a pipeline. err is written before ready is closed.
type future struct {
	start time.Time
	req   *raft.AppendEntriesRequest
	resp  *raft.AppendEntriesResponse
	err   error
	ready chan struct{}
}

func (f *future) finish(err error) {
	f.err = err
	close(f.ready)
}

// Error waits for the answer.
func (f *future) Error() error {
	<-f.ready
	return f.err
}

func (f *future) Start() time.Time                      { return f.start }
func (f *future) Request() *raft.AppendEntriesRequest   { return f.req }
func (f *future) Response() *raft.AppendEntriesResponse { return f.resp }

var _ raft.AppendPipeline = (*pipeline)(nil)
