package api

import (
	"context"
	"fmt"
	"net/http"

	"holdfast/client"
	"holdfast/fsm"
)

func (s *server) registerNodes() {
	register(s, operation{
		id: "list-nodes", method: http.MethodGet, path: "/v1/nodes", tag: "nodes",
		summary: "List nodes", description: "Removed ones too. What raft and gossip say of a node is the answering node's view.",
		problems: []string{client.CodeUnavailable, client.CodeStaleTooOld},
	}, s.listNodes)
	register(s, operation{
		id: "get-node", method: http.MethodGet, path: "/v1/nodes/{id}", tag: "nodes",
		summary: "Get a node", problems: []string{client.CodeNotFound, client.CodeUnavailable, client.CodeStaleTooOld},
	}, s.getNode)
	register(s, operation{
		id: "drain-node", method: http.MethodPost, path: "/v1/nodes/{id}/drain", tag: "nodes", mutation: true,
		summary: "Stop or again allow new attempts on a node", description: "Running attempts go on.",
		consumes: []string{jsonType}, maxBody: 4 << 10, body: client.DrainRequest{},
		problems: []string{client.CodeNotFound, client.CodeConflict, client.CodeUnavailable},
	}, s.drainNode)
	register(s, operation{
		id: "remove-node", method: http.MethodDelete, path: "/v1/nodes/{id}", tag: "nodes", mutation: true, status: http.StatusNoContent,
		summary: "Remove a node for good", description: "Its certificate is revoked, its attempts are lost, and its ID never comes back.",
		problems: []string{client.CodeNotFound, client.CodeConflict, client.CodeUnavailable},
	}, s.removeNode)
}

type nodesInput struct{ ReadParams }

type nodesOutput struct {
	Freshness
	Body client.NodeList
}

func (s *server) listNodes(ctx context.Context, _ *call, in *nodesInput) (*nodesOutput, error) {
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	out := &nodesOutput{Freshness: fresh, Body: client.NodeList{Nodes: []client.Node{}, Index: fresh.Index}}
	peers := s.cfg.Backend.Peers()
	for _, v := range s.cfg.Backend.State().Nodes() {
		out.Body.Nodes = append(out.Body.Nodes, nodeOf(v, peers))
	}
	return out, nil
}

// NodePath is the path of one node.
type NodePath struct {
	ID string `path:"id" maxLength:"128"`
}

type nodeInput struct {
	NodePath
	ReadParams
}

type nodeOutput struct {
	Freshness
	Body client.Node
}

func (s *server) getNode(ctx context.Context, _ *call, in *nodeInput) (*nodeOutput, error) {
	fresh, err := s.barrier(ctx, in.ReadParams)
	if err != nil {
		return nil, err
	}
	return s.showNode(fsm.NodeID(in.ID), fresh)
}

func (s *server) showNode(id fsm.NodeID, fresh Freshness) (*nodeOutput, error) {
	v, ok := s.cfg.Backend.State().Node(id)
	if !ok {
		return nil, newProblem(client.CodeNotFound, "no node has the ID %.64q: GET /v1/nodes lists them", id)
	}
	return &nodeOutput{Freshness: fresh, Body: nodeOf(v, s.cfg.Backend.Peers())}, nil
}

type drainInput struct {
	Keyed
	NodePath
	RawBody []byte `contentType:"application/json"`
}

func (s *server) drainNode(ctx context.Context, c *call, in *drainInput) (*nodeOutput, error) {
	c.target = in.ID
	var req struct {
		Drain *bool `json:"drain"`
	}
	if p := decode(in.RawBody, &req); p != nil {
		return nil, p
	}
	if req.Drain == nil {
		return nil, invalidAt("body.drain", "is missing: want true or false")
	}
	index, _, err := s.proposeApplied(ctx, c, fsm.CmdDrainNode, in.Key, fsm.DrainNode{Node: fsm.NodeID(in.ID), Drain: *req.Drain})
	if err != nil {
		return nil, err
	}
	return s.showNode(fsm.NodeID(in.ID), Freshness{Index: index})
}

type removeInput struct {
	Keyed
	NodePath
}

type emptyOutput struct{ Freshness }

func (s *server) removeNode(ctx context.Context, c *call, in *removeInput) (*emptyOutput, error) {
	c.target = in.ID
	ctx, cancel := context.WithTimeout(ctx, s.limits.ProposeTimeout)
	defer cancel()
	if err := s.cfg.Backend.RemoveNode(ctx, fsm.NodeID(in.ID)); err != nil {
		return nil, fmt.Errorf("remove node %.64q: %w", in.ID, err)
	}
	return &emptyOutput{Freshness{Index: s.cfg.Backend.State().Index()}}, nil
}

func nodeOf(v fsm.NodeView, peers map[fsm.NodeID]Peer) client.Node {
	n := client.Node{
		ID: string(v.ID), Name: v.Name, Addr: v.Addr, Version: v.Version, State: "ready", Role: "worker",
		CPUMillis: int(v.CPUMillis), MemoryBytes: int64(v.MemoryBytes),
		UsedCPUMillis: int(v.UsedCPUMillis), UsedMemoryBytes: v.UsedMemoryBytes, Running: v.Running,
		Abilities: v.Abilities, Weaker: v.Weaker,
	}
	switch {
	case v.Removed:
		n.State = "removed"
	case v.Lost || !v.Registered:
		n.State = "lost"
	case v.Draining:
		n.State = "draining"
	}
	if len(v.Labels) > 0 {
		n.Labels = labelMap(v.Labels)
	}
	if p, ok := peers[v.ID]; ok {
		n.Gossip = p.Gossip
		if p.Role != "" {
			n.Role = p.Role
		}
	}
	return n
}
