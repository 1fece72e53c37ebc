package fsm

import (
	"slices"
	"time"
)

func durationBetween(from, to int64) time.Duration { return time.Duration(max(0, to-from)) }

// applyRegisterNode takes a node's description of itself. Another incarnation
// than the one known means that its process restarted.
func (m *machine) applyRegisterNode(e *envelope) (Result, error) {
	var c RegisterNode
	if err := decodeRegisterNode(e.body, &c); err != nil {
		return Result{}, err
	}
	n, refusal := m.liveNode([]byte(c.Node.ID))
	if n == nil {
		if refusal.Code == CodeNotFound {
			refusal.Code = CodeForbidden
		}
		return refusal, nil
	}
	if level := c.Node.featureLevel(); level < m.cluster.Level {
		return refuse(CodeConflict, "node %s knows feature level %d, and the cluster is at %d: upgrade the node",
			n.id, level, m.cluster.Level), nil
	}
	restarted := n.registered && n.desc.Incarnation != c.Node.Incarnation
	n.desc = c.Node
	n.registered, n.lost = true, false
	if restarted {
		m.loseAttempts(n, m.now, "the worker restarted")
	}
	m.changeNode(n.id)
	return Result{}, nil
}

func decodeRegisterNode(b []byte, c *RegisterNode) error {
	if err := decodeStrict(b, c); err != nil {
		return err
	}
	return c.Node.validate()
}

// featureLevel of a node that names none is the base level.
func (n *Node) featureLevel() uint32 { return max(n.FeatureLevel, BaseFeatureLevel) }

// applyExpireWorker declares one incarnation's attempts lost.
func (m *machine) applyExpireWorker(e *envelope) (Result, error) {
	var c ExpireWorker
	if err := decodeStrict(e.body, &c); err != nil {
		return Result{}, err
	}
	n, refusal := m.liveNode([]byte(c.Node))
	if n == nil {
		return refusal, nil
	}
	if !n.registered || n.desc.Incarnation != c.Incarnation {
		return refuse(CodeConflict, "node %s is registered with another incarnation", n.id), nil
	}
	if n.lost {
		return Result{}, nil
	}
	n.lost = true
	m.loseAttempts(n, m.now, "the worker was lost")
	m.changeNode(n.id)
	return Result{}, nil
}

// applyDrainNode stops or allows new attempts on a node.
func (m *machine) applyDrainNode(e *envelope) (Result, error) {
	var c DrainNode
	if err := decodeStrict(e.body, &c); err != nil {
		return Result{}, err
	}
	n, refusal := m.liveNode([]byte(c.Node))
	if n == nil {
		return refusal, nil
	}
	if n.draining != c.Drain {
		n.draining = c.Drain
		m.changeNode(n.id)
	}
	return Result{}, nil
}

// applyRemoveNode ends a node's membership. If the node was not lost before,
// its tasks wait for RemoveGrace: its worker may still be at them.
func (m *machine) applyRemoveNode(e *envelope) (Result, error) {
	var c RemoveNode
	if err := decodeStrict(e.body, &c); err != nil {
		return Result{}, err
	}
	if _, done := m.removedAt[c.Node]; done {
		return Result{}, nil
	}
	n, refusal := m.liveNode([]byte(c.Node))
	if n == nil {
		return refusal, nil
	}
	if len(m.removed) >= m.limits.Removed {
		return refuse(CodeConflict, "the revocation set is full: %d nodes", len(m.removed)), nil
	}
	notBefore := m.now
	if !n.lost {
		notBefore += int64(RemoveGrace)
	}
	m.loseAttempts(n, notBefore, "the worker's node was removed")
	delete(m.nodes, n.id)
	i, _ := findNode(m.nodeOrder, n.id)
	m.nodeOrder = slices.Delete(m.nodeOrder, i, i+1)
	m.addRemoved(removedNode{ID: n.id, Name: n.desc.Name, RemovedAt: m.now})
	m.changeNode(n.id)
	m.changes = append(m.changes, Change{Kind: ChangeToken, Node: n.id}) // the revocation set
	return Result{}, nil
}

func (m *machine) addRemoved(r removedNode) {
	m.removedAt[r.ID] = len(m.removed)
	m.removed = append(m.removed, r)
}

// applyAdmitNode spends one use of a join token.
func (m *machine) applyAdmitNode(e *envelope) (Result, error) {
	var c AdmitNode
	if err := decodeAdmitNode(e.body, &c); err != nil {
		return Result{}, err
	}
	if _, removed := m.removedAt[c.Node]; removed {
		return refuse(CodeForbidden, "node %s was removed from the cluster", c.Node), nil
	}
	i, found := m.findToken(c.TokenID)
	if !found || m.tokens[i].Hash != c.Hash || m.tokens[i].Role != RoleNode {
		return refuse(CodeTokenBad, "no such join token"), nil
	}
	t, n := m.tokens[i], m.nodes[c.Node]
	if n != nil && n.tokenID == t.ID && !n.registered {
		return Result{}, nil // asked again: its answer was lost
	}
	switch {
	case n != nil && n.registered:
		// It ran, so it may have voted. Whoever asks for its certificate anew
		// has lost its store, and with it what it promised the others.
		return refuse(CodeForbidden, "node %s belongs to the cluster already: remove it, and join with a new key", c.Node), nil
	case t.Expires != 0 && t.Expires <= m.now:
		return refuse(CodeTokenExpired, "the join token has expired"), nil
	case t.Uses != 0 && t.Used >= t.Uses:
		return refuse(CodeTokenUsed, "every use of the join token is spent"), nil
	case n == nil && len(m.nodes) >= m.limits.Nodes:
		return refuse(CodeConflict, "the cluster has %d nodes, its bound", len(m.nodes)), nil
	}
	spent := *t
	spent.Used++
	m.replaceToken(i, &spent)
	if n == nil {
		n = &node{id: c.Node, desc: Node{ID: c.Node}}
		m.addNode(n)
	}
	n.tokenID = t.ID
	m.changeNode(c.Node)
	return Result{}, nil
}

func decodeAdmitNode(b []byte, c *AdmitNode) error {
	if err := decodeStrict(b, c); err != nil {
		return err
	}
	return c.Node.validate()
}
