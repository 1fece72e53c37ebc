package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

type echo struct {
	Text string `cbor:"1,keyasint"`
}

// pair makes a client whose streams a server answers until the test ends.
func pair(t *testing.T, set func(*Server)) *Client {
	t.Helper()
	s := NewServer(hclog.NewNullLogger())
	set(s)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{}, 64)
	n := 0
	t.Cleanup(func() {
		cancel()
		for range n {
			<-served // every handler has returned
		}
	})
	return &Client{Open: func(context.Context, string) (net.Conn, error) {
		a, b := net.Pipe()
		n++
		go func() { s.ServeStream(ctx, "caller", b); served <- struct{}{} }()
		return a, nil
	}}
}

func TestCall(t *testing.T) {
	c := pair(t, func(s *Server) {
		s.Handle("echo", func(_ context.Context, peer string, body []byte) (any, error) {
			var e echo
			if err := Decode(body, &e); err != nil {
				return nil, Errorf(CodeInvalid, "%v", err)
			}
			return echo{peer + " " + e.Text}, nil
		})
		s.Handle("refuse", func(context.Context, string, []byte) (any, error) {
			return nil, &Error{Code: CodeNotLeader, Message: "not me", Leader: "n2", LeaderAddr: "a:1"}
		})
		s.Handle("break", func(context.Context, string, []byte) (any, error) { return nil, errors.New("oh") })
	})
	var got echo
	if err := c.Call(t.Context(), "n1", "echo", echo{"hello"}, &got); err != nil || got.Text != "caller hello" {
		t.Fatalf("echo: %q, %v", got.Text, err)
	}
	for method, want := range map[string]Error{
		"refuse": {CodeNotLeader, "not me", "n2", "a:1"},
		"break":  {Code: CodeInternal, Message: "oh"},
	} {
		var e *Error
		if err := c.Call(t.Context(), "n1", method, nil, nil); !errors.As(err, &e) || *e != want {
			t.Errorf("%s: got %#v, want %#v", method, err, want)
		}
	}
	var e *Error
	if err := c.Call(t.Context(), "n1", "nothing", nil, nil); !errors.As(err, &e) || e.Code != CodeNotFound {
		t.Errorf("unknown method: %v", err)
	}
	if err := c.Call(t.Context(), "n1", "echo", 7, nil); !errors.As(err, &e) || e.Code != CodeInvalid {
		t.Errorf("wrong type: %v", err)
	}
}

func TestStream(t *testing.T) {
	c := pair(t, func(s *Server) {
		s.HandleStream("upper", func(_ context.Context, _ string, _ []byte, conn net.Conn) {
			b := make([]byte, 3)
			_, _ = io.ReadFull(conn, b)
			_, _ = conn.Write(bytes.ToUpper(b))
		})
	})
	s, err := c.Stream(t.Context(), "n1", "upper", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "ABC" {
		t.Fatalf("%q, %v", b, err)
	}
}

// A caller that gives up must not wait for a handler that never answers.
func TestCallEndsWithItsContext(t *testing.T) {
	entered := make(chan struct{})
	c := pair(t, func(s *Server) {
		s.Handle("hang", func(ctx context.Context, _ string, _ []byte) (any, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if err := c.Call(ctx, "n1", "hang", nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestReadFrameRefusesHostileBytes(t *testing.T) {
	for name, in := range map[string]string{
		"over-long":  "ffffffff",
		"cut short":  "00000005a1",
		"not CBOR":   "00000001ff",
		"duplicate":  "00000005a201000101",
		"indefinite": "000000029fff",
		"deep":       "00000014" + strings.Repeat("81", 19) + "00",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(name, err)
		}
		var v any
		if err := ReadFrame(bytes.NewReader(b), &v); err == nil {
			t.Errorf("%s: accepted as %v", name, v)
		}
	}
}

// The wire format is fixed: nodes of two releases must understand each other.
func TestHelloGolden(t *testing.T) {
	var b bytes.Buffer
	body, err := Encode(echo{"x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFrame(&b, hello{Method: "echo", Body: body}); err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(b.Bytes()), "0000000ca201646563686f02a1016178"; got != want {
		t.Fatalf("hello is %s, want %s", got, want)
	}
	b.Reset()
	if err := WriteFrame(&b, reply{Err: &Error{Code: CodeNotLeader, Message: "m"}}); err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(b.Bytes()), "00000008a102a2010402616d"; got != want {
		t.Fatalf("reply is %s, want %s", got, want)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h hello
		_ = ReadFrame(bytes.NewReader(b), &h)
		var r reply
		_ = ReadFrame(bytes.NewReader(b), &r)
	})
}

func TestSilentStreamIsDropped(t *testing.T) {
	s := NewServer(hclog.NewNullLogger())
	a, b := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.ServeStream(ctx, "p", b); close(done) }()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a silent stream holds its handler")
	}
	_ = a.Close()
}
