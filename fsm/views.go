package fsm

// TaskView is a task as readers see it. Spec, Shape and Result are shared and
// must not be changed.
type TaskView struct {
	ID          TaskID
	Owner       string
	State       TaskState
	Attempt     uint32 // number of the last attempt, 0 = none yet
	Node        NodeID // of the last attempt, also once it has ended; "" before the first
	Shape       *Shape
	SpecBytes   []byte // an encoded Spec
	SubmittedAt int64  // Unix ns, as are the others; 0 = not yet
	StartedAt   int64  // of the last attempt
	FinishedAt  int64
	RetryAt     int64          // Queued and held back: the earliest time of the next attempt
	Failures    uint32         // attempts that count toward the retry limit
	Lost        uint32         // attempts that ended because of their worker
	Result      *AttemptResult // of the last attempt that ended
	EndReason   EndReason      // terminal: why
	Index       uint64         // of the raft entry that last changed the task
}

func (t *task) view() *TaskView {
	v := &TaskView{
		ID: t.id, Owner: t.owner.name, State: t.state, Attempt: t.attempt, Shape: &t.shape.Shape, SpecBytes: t.spec,
		SubmittedAt: t.submittedAt, StartedAt: t.startedAt, FinishedAt: t.finishedAt,
		Failures: t.failures, Lost: t.lost, Result: t.result, EndReason: t.reason, Index: t.index, Node: t.last,
	}
	if t.node != nil {
		v.Node = t.node.id
	}
	if t.state == Queued && !t.ready {
		v.RetryAt = t.dueAt
	}
	return v
}

// Task returns one task.
func (s *State) Task(id TaskID) (*TaskView, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.m.tasks.get(id)
	if t == nil {
		return nil, false
	}
	return t.view(), true
}

// NodeView is a node as readers see it.
type NodeView struct {
	Node            // as it registered; only the ID, and for removed ones the name, if it did not
	Admitted        bool
	Registered      bool // its process has been there
	Draining        bool
	Lost            bool
	Removed         bool
	RemovedAt       int64 // Unix ns
	UsedCPUMillis   int64 // by running attempts, and by superseded ones that may still run
	UsedMemoryBytes int64
	Running         int
	Superseded      int // attempts that were superseded and not yet reported
}

func (n *node) view() NodeView {
	return NodeView{
		Node: n.desc, Admitted: true, Registered: n.registered, Draining: n.draining, Lost: n.lost,
		UsedCPUMillis: n.cpuMillis, UsedMemoryBytes: n.memory, Running: n.running.n, Superseded: len(n.zombies),
	}
}

func (r *removedNode) view() NodeView {
	return NodeView{Node: Node{ID: r.ID, Name: r.Name}, Removed: true, RemovedAt: r.RemovedAt}
}

// Nodes returns all nodes by ID, and then the removed ones in the order of
// their removal.
func (s *State) Nodes() []NodeView {
	s.mu.RLock()
	defer s.mu.RUnlock()
	views := make([]NodeView, 0, len(s.m.nodeOrder)+len(s.m.removed))
	for _, n := range s.m.nodeOrder {
		views = append(views, n.view())
	}
	for i := range s.m.removed {
		views = append(views, s.m.removed[i].view())
	}
	return views
}

// Node returns one node, removed ones too.
func (s *State) Node(id NodeID) (NodeView, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.m.nodes[id]; n != nil {
		return n.view(), true
	}
	if i, ok := s.m.removedAt[id]; ok {
		return s.m.removed[i].view(), true
	}
	return NodeView{}, false
}

// Revoked reports whether the node was removed: nothing may be accepted from
// it any more.
func (s *State) Revoked(id NodeID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.m.removedAt[id]
	return ok
}

// Running returns a node's current attempts by task: what its worker may run,
// and everything else it must kill.
func (s *State) Running(id NodeID) []Assignment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.m.nodes[id]
	if n == nil {
		return nil
	}
	as := make([]Assignment, 0, n.running.n)
	for _, t := range n.runningByID() {
		as = append(as, Assignment{Task: t.id, Attempt: t.attempt, Node: id})
	}
	return as
}

// Superseded returns the attempts of a node that were superseded and that its
// worker has not reported: it may still run them, and their capacity is in
// use until then.
func (s *State) Superseded(id NodeID) []Assignment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := s.m.nodes[id]
	if n == nil {
		return nil
	}
	as := make([]Assignment, 0, len(n.zombies))
	for _, z := range n.zombies {
		as = append(as, Assignment{Task: z.Task, Attempt: z.Attempt, Node: id})
	}
	return as
}

// TokenView is a stored token. The secret is nowhere, its hash is here.
type TokenView struct {
	ID        string
	Name      string
	Role      Role
	Hash      [32]byte // SHA-256 of the secret
	Expires   int64    // Unix ns, 0 = never
	Uses      uint32   // RoleNode: how many nodes may join, 0 = no bound
	Used      uint32
	CreatedAt int64 // Unix ns
}

func (t *storedToken) view() TokenView {
	return TokenView{t.ID, t.Name, t.Role, t.Hash, t.Expires, t.Uses, t.Used, t.CreatedAt}
}

// Tokens returns all tokens by ID, expired ones too.
func (s *State) Tokens() []TokenView {
	s.mu.RLock()
	defer s.mu.RUnlock()
	views := make([]TokenView, len(s.m.tokens))
	for i, t := range s.m.tokens {
		views[i] = t.view()
	}
	return views
}

// TokenByID returns one token. The caller checks its expiry by its own clock.
func (s *State) TokenByID(id string) (TokenView, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.m.findToken(id)
	if !ok {
		return TokenView{}, false
	}
	return s.m.tokens[i].view(), true
}

// ClusterView is the cluster's identity. The slices are shared and must not
// be changed.
type ClusterView struct {
	ClusterID    string
	CACert       []byte
	CAKey        []byte
	Settings     Settings // with the bounds in force
	FeatureLevel uint32
}

// Cluster returns the identity; not ok before InitCluster.
func (s *State) Cluster() (ClusterView, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, l := &s.m.cluster, s.m.limits
	return ClusterView{
		ClusterID: c.ID, CACert: c.CACert, CAKey: c.CAKey, FeatureLevel: c.Level,
		Settings: Settings{QueueBound: l.QueueBound, FinishedKept: l.FinishedKept, RequestIDsKept: l.RequestIDsKept},
	}, c.ID != ""
}
