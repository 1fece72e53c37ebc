package client

import (
	"context"
	"net/http"
	"net/url"
)

// Nodes returns every node of the cluster.
func (c *Client) Nodes(ctx context.Context, opts ...CallOption) (*NodeList, error) {
	var l NodeList
	if err := c.get(ctx, "list nodes", "/v1/nodes", c.readQuery(opts), &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// Node returns one node.
func (c *Client) Node(ctx context.Context, id string, opts ...CallOption) (*Node, error) {
	var n Node
	if err := c.get(ctx, "get node "+id, nodePath(id), c.readQuery(opts), &n); err != nil {
		return nil, err
	}
	return &n, nil
}

// Drain stops new attempts on a node, or allows them again. Running attempts
// go on.
func (c *Client) Drain(ctx context.Context, id string, drain bool, opts ...CallOption) (*Node, error) {
	op := "drain node " + id
	if !drain {
		op = "undrain node " + id
	}
	var n Node
	if err := c.mutate(ctx, op, http.MethodPost, nodePath(id)+"/drain", DrainRequest{drain}, &n, opts); err != nil {
		return nil, err
	}
	return &n, nil
}

// RemoveNode takes a node out of the cluster for good: its certificate is
// revoked and its attempts are lost.
func (c *Client) RemoveNode(ctx context.Context, id string, opts ...CallOption) error {
	return c.mutate(ctx, "remove node "+id, http.MethodDelete, nodePath(id), nil, nil, opts)
}

// Cluster returns the cluster's status as the answering node sees it.
func (c *Client) Cluster(ctx context.Context, opts ...CallOption) (*ClusterStatus, error) {
	var s ClusterStatus
	q := c.readQuery(opts)
	if options(opts).hash {
		q.Set("state_hash", "true")
	}
	if err := c.get(ctx, "get the cluster's status", "/v1/cluster", q, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Transfer makes the leader hand its office to another voter.
func (c *Client) Transfer(ctx context.Context, opts ...CallOption) error {
	return c.mutate(ctx, "transfer leadership", http.MethodPost, "/v1/cluster/transfer", nil, nil, opts)
}

// Tokens returns every token, without secrets.
func (c *Client) Tokens(ctx context.Context, opts ...CallOption) (*TokenList, error) {
	var l TokenList
	if err := c.get(ctx, "list tokens", "/v1/tokens", c.readQuery(opts), &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// CreateToken makes a token. Its secret is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, req TokenRequest, opts ...CallOption) (*NewToken, error) {
	var t NewToken
	if err := c.mutate(ctx, "create a token", http.MethodPost, "/v1/tokens", req, &t, opts); err != nil {
		return nil, err
	}
	return &t, nil
}

// RevokeToken makes a token worthless at once.
func (c *Client) RevokeToken(ctx context.Context, id string, opts ...CallOption) error {
	return c.mutate(ctx, "revoke token "+id, http.MethodDelete, "/v1/tokens/"+url.PathEscape(id), nil, nil, opts)
}

func nodePath(id string) string { return "/v1/nodes/" + url.PathEscape(id) }
