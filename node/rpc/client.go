package rpc

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Client opens streams to other nodes.
type Client struct {
	// Open gives a new stream to a node over an authenticated connection.
	Open func(ctx context.Context, node string) (net.Conn, error)
}

// Call sends req to a method of a node and reads its answer into resp, which
// may be nil. Errors of the other side are *Error; any other error means that
// the outcome is unknown.
func (c *Client) Call(ctx context.Context, node, method string, req, resp any) error {
	stream, body, err := c.open(ctx, node, method, req)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if resp == nil {
		return nil
	}
	if err := Decode(body, resp); err != nil {
		return fmt.Errorf("rpc: %s on node %s: decode answer: %w", method, node, err)
	}
	return nil
}

// Stream opens a streaming method and returns once the other side accepted
// it. The caller closes the stream.
func (c *Client) Stream(ctx context.Context, node, method string, req any) (net.Conn, error) {
	stream, _, err := c.open(ctx, node, method, req)
	return stream, err
}

// open does the exchange that both kinds begin with: hello, then a reply.
func (c *Client) open(ctx context.Context, node, method string, req any) (net.Conn, []byte, error) {
	body, err := encMode.Marshal(req)
	if err != nil {
		return nil, nil, fmt.Errorf("rpc: encode %T: %w", req, err)
	}
	stream, err := c.Open(ctx, node)
	if err != nil {
		return nil, nil, fmt.Errorf("rpc: %s: open a stream to node %s: %w", method, node, err)
	}
	// A cancelled context must unblock a read that no answer will end.
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(time.Unix(1, 0)) })
	var r reply
	err = WriteFrame(stream, hello{Method: method, Body: body})
	if err == nil {
		err = ReadFrame(stream, &r)
	}
	if !stop() && err == nil {
		err = ctx.Err() // the deadline may have been spoilt: do not hand the stream out
	}
	switch {
	case err == nil && r.Err == nil:
		return stream, r.Body, nil
	case err == nil:
		err = r.Err
	case ctx.Err() != nil:
		err = fmt.Errorf("rpc: %s on node %s: %w", method, node, ctx.Err())
	default:
		err = fmt.Errorf("rpc: %s on node %s: %w", method, node, err)
	}
	_ = stream.Close()
	return nil, nil, err
}
