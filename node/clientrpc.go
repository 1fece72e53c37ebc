package node

import (
	"context"
	"time"

	"holdfast/client/frames"
	"holdfast/transport"
)

// Bounds of a client's connection around its session.
const (
	streamPatience = 5 * time.Second // until the client opens its stream
	partPatience   = time.Second     // until the client has read the last answers
)

// serveClient serves one client of the pipelined RPC. The mux must know its
// handlers before it serves, and the API is made after that: a client that is
// faster is sent away.
func (n *Node) serveClient(ctx context.Context, c *transport.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(n.ctx, cancel)
	defer stop()
	s, err := acceptFirst(ctx, c)
	if err != nil {
		return
	}
	if server := n.server.Load(); server != nil {
		err = server.ServeFast(ctx, s, c.RemoteAddr().String())
	} else {
		err = sendAway(s)
	}
	if err != nil {
		n.log.Debug("a client's session ended", "source", c.RemoteAddr().String(), "error", err)
	}
	// The client closes: a close from here could overtake the last answers.
	_ = s.CloseWrite()
	patience := time.NewTimer(partPatience)
	defer patience.Stop()
	select {
	case <-c.Context().Done():
	case <-n.ctx.Done(): // a node that stops waits for nobody
	case <-patience.C:
	}
}

func acceptFirst(ctx context.Context, c *transport.Conn) (*transport.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, streamPatience)
	defer cancel()
	return c.AcceptStream(ctx)
}

func sendAway(s *transport.Stream) error {
	b, err := frames.Append(nil, frames.Welcome{Code: frames.Unavailable, Detail: "this node is starting: try again, or try another one"})
	if err != nil {
		return err
	}
	_ = s.SetWriteDeadline(time.Now().Add(partPatience))
	_, err = s.Write(b)
	return err
}
