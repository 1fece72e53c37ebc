package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"holdfast/client/frames"
)

// Fast submits over the pipelined QUIC RPC: many requests in flight on one
// connection, no HTTP. It has the trust, failover and retries of Client. Make
// it with NewFast, Close it; safe for concurrent use.
type Fast struct {
	*retrier
	cfg   Config
	tls   *tls.Config
	index atomic.Uint64
	alive context.Context // ends with Close
	stop  context.CancelFunc
	work  sync.WaitGroup // every session's goroutines

	mu       sync.Mutex
	sessions map[string]*fastDial // by address
}

// fastDial is one connection or the dial of it, shared by all callers.
type fastDial struct {
	ready   chan struct{} // closed once session and err are set
	session *fastSession
	err     error
}

// Submitted names the tasks of one submission: Count of them, with
// consecutive numbers.
type Submitted struct {
	First uint64
	Count int
	Index uint64
}

// ID returns the ID of the i-th task, from 0.
func (s Submitted) ID(i int) string { return "t" + strconv.FormatUint(s.First+uint64(i), 10) }

// ErrClosed is a call on a closed Fast.
var ErrClosed = errors.New("the client is closed")

// NewFast checks cfg and returns a client. It does not connect. A unix socket
// has no QUIC.
func NewFast(cfg Config) (*Fast, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.UnixSocket != "" {
		return nil, fmt.Errorf("%w: the pipelined RPC needs addresses, not a unix socket", ErrConfig)
	}
	addrs, err := parseAddrs(cfg.Addrs)
	if err != nil {
		return nil, err
	}
	tc, err := tlsConfig(cfg.CAPin, cfg.CACert, cfg.now)
	if err != nil {
		return nil, err
	}
	tc.NextProtos = []string{frames.ALPN}
	f := &Fast{retrier: newRetrier(cfg, addrs), cfg: cfg, tls: tc, sessions: map[string]*fastDial{}}
	f.alive, f.stop = context.WithCancel(context.Background())
	return f, nil
}

// Submit submits up to 1000 specs, all or none, and returns once they are
// durable.
func (f *Fast) Submit(ctx context.Context, specs []TaskSpec, opts ...CallOption) (Submitted, error) {
	encoded := make([][]byte, len(specs))
	for i, s := range specs {
		var err error
		if encoded[i], err = EncodeSpec(s); err != nil {
			return Submitted{}, fmt.Errorf("submit: spec %d: %w", i+1, err)
		}
	}
	return f.SubmitEncoded(ctx, encoded, opts...)
}

// SubmitEncoded is Submit for specs that EncodeSpec encoded before.
func (f *Fast) SubmitEncoded(ctx context.Context, specs [][]byte, opts ...CallOption) (Submitted, error) {
	if len(specs) == 0 || len(specs) > frames.MaxSpecs {
		return Submitted{}, fmt.Errorf("submit %d specs: want 1 to %d", len(specs), frames.MaxSpecs)
	}
	key := options(opts).key
	if key == "" {
		key = rand.Text()
	}
	req := frames.Request{Method: frames.Submit, Key: key, Specs: make([]cbor.RawMessage, len(specs))}
	for i, s := range specs {
		req.Specs[i] = s
	}
	var out Submitted
	err := f.try(ctx, "submit", func(ctx context.Context, addr string) error {
		a, err := f.call(ctx, addr, &req)
		if err != nil {
			return err
		}
		if err := refusal(a.Code, a.Detail, a.RetryAfterMS); err != nil {
			return err
		}
		if int(a.Count) != len(specs) || a.First == 0 {
			return &permanentError{fmt.Errorf("the answer names %d tasks from %d on, want %d", a.Count, a.First, len(specs))}
		}
		out = Submitted{a.First, int(a.Count), a.Index}
		return nil
	})
	if err == nil {
		for old := f.index.Load(); out.Index > old && !f.index.CompareAndSwap(old, out.Index); old = f.index.Load() {
		}
	}
	return out, err
}

// LastIndex returns the highest log index that any answer has named.
func (f *Fast) LastIndex() uint64 { return f.index.Load() }

// refusal turns a code into the same error as over HTTP.
func refusal(code frames.Code, detail string, retryAfterMS uint32) error {
	if code == frames.OK {
		return nil
	}
	name, status := code.Problem()
	p := &Problem{Type: ProblemPrefix + name, Title: name, Status: status, Detail: detail}
	return &answerError{p, min(time.Duration(retryAfterMS)*time.Millisecond, maxRetryAfter)}
}

// call sends req on the connection to addr, dialling it if there is none.
func (f *Fast) call(ctx context.Context, addr string, req *frames.Request) (frames.Answer, error) {
	deadline := time.Now().Add(f.cfg.Timeout)
	s, err := f.session(ctx, addr, deadline)
	if err != nil {
		return frames.Answer{}, err
	}
	return s.call(ctx, req, deadline)
}

func (f *Fast) session(ctx context.Context, addr string, deadline time.Time) (*fastSession, error) {
	f.mu.Lock()
	if f.alive.Err() != nil {
		f.mu.Unlock()
		return nil, &permanentError{ErrClosed}
	}
	d := f.sessions[addr]
	if d == nil || d.over() {
		d = &fastDial{ready: make(chan struct{})}
		f.sessions[addr] = d
		// Its own goroutine: the caller that happened to come first may give
		// up before the others.
		f.work.Go(func() {
			d.session, d.err = dialFast(f.alive, addr, f.tls, f.cfg, &f.work)
			close(d.ready)
		})
	}
	f.mu.Unlock()
	select {
	case <-d.ready:
		return d.session, d.err
	default:
	}
	wctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case <-d.ready:
		return d.session, d.err
	case <-wctx.Done():
		if ctx.Err() == nil {
			return nil, &lateError{f.cfg.Timeout}
		}
		return nil, ctx.Err()
	}
}

// over tells whether the dial failed or its connection ended.
func (d *fastDial) over() bool {
	select {
	case <-d.ready:
		return d.err != nil || d.session.ctx.Err() != nil
	default:
		return false
	}
}

// Close ends all connections; calls under way fail.
func (f *Fast) Close() {
	f.mu.Lock()
	f.stop()
	f.mu.Unlock()
	f.work.Wait()
}
