package api

import (
	"context"
	"net"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"holdfast/client"
	"holdfast/client/frames"
)

// fastHarness is the API without its HTTP listener.
type fastHarness struct {
	*Server
	t       testing.TB
	backend *memory
	audit   *journal
}

func newFastHarness(t testing.TB, change func(*Config)) *fastHarness {
	t.Helper()
	h := &fastHarness{t: t, backend: newMemory(t), audit: &journal{}}
	cfg := Config{
		Backend: h.backend, Authenticator: words{}, Audit: journalAudit{h.audit}, Minter: &counterMinter{},
		Policy: ladder{"submit-task": 2, "submit-batch": 3},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if h.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return h
}

// fastPeer is a client of one session.
type fastPeer struct {
	t      testing.TB
	conn   net.Conn
	in     *frames.Reader
	cancel context.CancelFunc
	ended  chan error // the server's end
	number uint64
}

// dial begins a session; the server's end is served until the test is over.
func (h *fastHarness) dial(hello frames.Hello) (*fastPeer, frames.Welcome) {
	h.t.Helper()
	here, there := net.Pipe()
	p := h.serve(here, there)
	p.send(hello)
	var w frames.Welcome
	p.read(&w)
	return p, w
}

func (h *fastHarness) serve(here, there net.Conn) *fastPeer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &fastPeer{t: h.t, conn: here, in: frames.NewReader(here), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		p.ended <- h.ServeFast(ctx, there, "10.0.0.1:1")
		there.Close()
	}()
	h.t.Cleanup(func() {
		cancel()
		here.Close()
		p.wait()
	})
	return p
}

func (h *fastHarness) login(token string) *fastPeer {
	h.t.Helper()
	p, w := h.dial(frames.Hello{Version: frames.Version, Token: token})
	if w.Code != frames.OK || w.InFlight == 0 {
		h.t.Fatalf("welcomed with %+v", w)
	}
	return p
}

// wait gives why the server ended the session.
func (p *fastPeer) wait() error {
	err := <-p.ended
	p.ended <- err
	return err
}

func (p *fastPeer) send(messages ...any) {
	p.t.Helper()
	var b []byte
	var err error
	for _, m := range messages {
		if b, err = frames.Append(b, m); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *fastPeer) read(v any) {
	p.t.Helper()
	if err := p.in.Next(v); err != nil {
		p.t.Fatal(err)
	}
}

// request makes a request for tasks of these commands.
func (p *fastPeer) request(key string, specs ...client.TaskSpec) *frames.Request {
	p.t.Helper()
	p.number++
	r := &frames.Request{Number: p.number, Method: frames.Submit, Key: key}
	for _, s := range specs {
		raw, err := client.EncodeSpec(s)
		if err != nil {
			p.t.Fatal(err)
		}
		r.Specs = append(r.Specs, cbor.RawMessage(raw))
	}
	return r
}

// ask sends one request and waits for its answer.
func (p *fastPeer) ask(r *frames.Request) frames.Answer {
	p.t.Helper()
	p.send(r)
	var a frames.Answer
	p.read(&a)
	if a.Number != r.Number {
		p.t.Fatalf("request %d is answered by %+v", r.Number, a)
	}
	return a
}

func run(args ...string) client.TaskSpec { return client.TaskSpec{Command: args} }
