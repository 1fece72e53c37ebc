package main

import (
	"context"

	"holdfast/node"
)

func init() { nodeCommands = nodes{} }

// nodes wires package node to the commands.
type nodes struct{}

func (nodes) Init(ctx context.Context, cfg node.Config) (*InitReport, error) {
	r, err := node.Init(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return (*InitReport)(r), nil
}

func (nodes) Join(ctx context.Context, cfg node.Config, token string, addrs []string) (*JoinReport, error) {
	r, err := node.Join(ctx, cfg, token, addrs)
	if err != nil {
		return nil, err
	}
	return &JoinReport{ClusterID: r.ClusterID, NodeID: r.NodeID, Data: r.Data}, nil
}

func (nodes) Start(ctx context.Context, cfg node.Config, ready func(ReadyReport)) error {
	return node.Run(ctx, cfg, func(r node.Ready) { ready(ReadyReport(r)) })
}

func (nodes) Leave(ctx context.Context, cfg node.Config) error { return node.Leave(ctx, cfg) }

func (nodes) Dev(ctx context.Context, cfg node.Config, socket string, ready func(ReadyReport)) error {
	return node.Dev(ctx, cfg, socket, func(r node.Ready) { ready(ReadyReport(r)) })
}
