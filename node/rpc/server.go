package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/go-hclog"
)

// helloTimeout bounds the wait for a stream's first frame: an opener that
// says nothing must not hold a goroutine.
const helloTimeout = 5 * time.Second

type hello struct {
	Method string          `cbor:"1,keyasint"`
	Body   cbor.RawMessage `cbor:"2,keyasint,omitempty"`
}

type reply struct {
	Body cbor.RawMessage `cbor:"1,keyasint,omitempty"`
	Err  *Error          `cbor:"2,keyasint,omitempty"`
}

// Unary answers one call of the authenticated node peer.
type Unary func(ctx context.Context, peer string, body []byte) (any, error)

// Streaming owns the stream after the opener was told that it is accepted.
// The stream is closed when it returns.
type Streaming func(ctx context.Context, peer string, body []byte, s net.Conn)

// Server answers streams of any number of connections.
type Server struct {
	logger  hclog.Logger
	unary   map[string]Unary
	streams map[string]Streaming
}

// NewServer makes a server without methods.
func NewServer(logger hclog.Logger) *Server {
	return &Server{logger: logger, unary: map[string]Unary{}, streams: map[string]Streaming{}}
}

// Handle registers a unary method. Call it before the first stream.
func (s *Server) Handle(method string, h Unary) { s.unary[method] = h }

// HandleStream registers a streaming method. Call it before the first stream.
func (s *Server) HandleStream(method string, h Streaming) { s.streams[method] = h }

// ServeStream answers one stream of an authenticated node and closes it.
func (s *Server) ServeStream(ctx context.Context, peer string, stream net.Conn) {
	// A handler blocked on the stream must not outlive the server.
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	defer func() { _ = stream.Close() }()

	var h hello
	_ = stream.SetReadDeadline(time.Now().Add(helloTimeout))
	if err := ReadFrame(stream, &h); err != nil {
		s.logger.Debug("stream without a hello", "peer", peer, "error", err)
		return
	}
	_ = stream.SetReadDeadline(time.Time{})

	if handle, ok := s.streams[h.Method]; ok {
		if err := WriteFrame(stream, reply{}); err == nil {
			handle(ctx, peer, h.Body, stream)
		}
		return
	}
	handle, ok := s.unary[h.Method]
	if !ok {
		_ = WriteFrame(stream, reply{Err: Errorf(CodeNotFound, "no method %q on this node: it may run an older release", h.Method)})
		return
	}
	if err := WriteFrame(stream, s.answer(ctx, peer, handle, h.Body)); err != nil {
		s.logger.Debug("answer not sent", "peer", peer, "method", h.Method, "error", err)
	}
}

func (s *Server) answer(ctx context.Context, peer string, handle Unary, body []byte) reply {
	v, err := handle(ctx, peer, body)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: CodeInternal, Message: err.Error()}
		}
		return reply{Err: e}
	}
	b, err := encMode.Marshal(v)
	if err != nil {
		return reply{Err: &Error{Code: CodeInternal, Message: fmt.Sprintf("encode answer: %v", err)}}
	}
	return reply{Body: b}
}
