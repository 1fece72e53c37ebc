package fsm

// The records of a snapshot. Tasks and remembered requests are written and
// read by hand, because there are a million of them; the others by the
// library.

// metaRecord is the first record.
type metaRecord struct {
	Index     uint64  `cbor:"1,keyasint"`
	Now       int64   `cbor:"2,keyasint"`
	LastTask  TaskID  `cbor:"3,keyasint"`
	FinishSeq uint64  `cbor:"4,keyasint"`
	Totals    Totals  `cbor:"5,keyasint"`
	Cluster   cluster `cbor:"6,keyasint"`
	Accepted  uint64  `cbor:"7,keyasint"`
}

// nodeRecord is what is kept of a node.
type nodeRecord struct {
	Node       Node     `cbor:"1,keyasint"`
	TokenID    string   `cbor:"2,keyasint,omitempty"`
	Registered bool     `cbor:"3,keyasint,omitempty"`
	Draining   bool     `cbor:"4,keyasint,omitempty"`
	Lost       bool     `cbor:"5,keyasint,omitempty"`
	Zombies    []zombie `cbor:"6,keyasint,omitempty"`
}

func (n *node) record() nodeRecord {
	return nodeRecord{n.desc, n.tokenID, n.registered, n.draining, n.lost, n.zombies}
}

// appendTask appends a task's record.
func appendTask(b []byte, t *task) []byte {
	f := newFieldWriter(b)
	f.uint(1, uint64(t.id))
	f.key(2)
	f.b = append(f.b, t.shape.key...)
	f.key(3)
	f.b = append(f.b, t.spec...)
	f.text(4, t.owner.name)
	f.uint(5, uint64(t.state))
	f.uint(6, uint64(t.reason))
	f.uint(7, uint64(t.attempt))
	f.uint(8, uint64(t.failures))
	f.uint(9, uint64(t.lost))
	if t.node != nil {
		f.text(10, string(t.node.id))
	}
	f.int(11, t.submittedAt)
	f.int(12, t.startedAt)
	f.int(13, t.finishedAt)
	f.int(14, t.dueAt)
	f.int(15, t.waited)
	f.bool(16, t.ready)
	f.uint(17, t.index)
	f.uint(18, t.finishSeq)
	if t.result != nil {
		f.key(19)
		f.b = appendAttemptResult(f.b, t.result)
	}
	if t.last != "" {
		f.text(20, string(t.last))
	}
	return f.done()
}

// decodeTask reads a task's record into the machine's shared parts. The task
// is in no list yet.
func (m *machine) decodeTask(b []byte) (*task, error) {
	w := wire{b: b}
	t := new(task)
	var shapeKey, ownerName, nodeID []byte
	f := w.fields()
	for f.next(&w) {
		switch f.key {
		case 1:
			t.id = TaskID(w.uint(maxTaskID))
		case 2:
			shapeKey = w.raw(maxShapeBytes)
		case 3:
			t.spec = append([]byte(nil), w.raw(MaxSpecBytes)...)
		case 4:
			ownerName = w.text(maxNameBytes)
		case 5:
			t.state = TaskState(w.uint(uint64(Expired)))
		case 6:
			t.reason = EndReason(w.uint(uint64(lastReason)))
		case 7:
			t.attempt = uint32(w.uint(1<<32 - 1))
		case 8:
			t.failures = uint32(w.uint(1<<32 - 1))
		case 9:
			t.lost = uint32(w.uint(1<<32 - 1))
		case 10:
			nodeID = w.text(maxKeyBytes)
		case 11:
			t.submittedAt = w.int(1<<63 - 1)
		case 12:
			t.startedAt = w.int(1<<63 - 1)
		case 13:
			t.finishedAt = w.int(1<<63 - 1)
		case 14:
			t.dueAt = w.int(1<<63 - 1)
		case 15:
			t.waited = w.int(1<<63 - 1)
		case 16:
			t.ready = w.bool()
		case 17:
			t.index = w.uint(1<<64 - 1)
		case 18:
			t.finishSeq = w.uint(1<<64 - 1)
		case 19:
			r := w.attemptResult()
			t.result = &r
		case 20:
			t.last = m.internNode(w.text(maxKeyBytes))
		default:
			f.unknown(&w, "the task")
		}
	}
	if err := w.end(); err != nil {
		return nil, err
	}
	if nodeID != nil {
		if t.node = m.nodes[NodeID(nodeID)]; t.node == nil {
			return nil, &decodeError{problem: "task " + t.id.String() + " runs on the unknown node " + string(nodeID)}
		}
	}
	if err := t.check(m); err != nil {
		return nil, err
	}
	s, err := m.acquireShape(shapeKey)
	if err != nil {
		return nil, err
	}
	t.shape, t.owner = s, m.acquireOwner(ownerName)
	return t, nil
}

// internNode gives a node's ID, shared with the node if it is known: a million
// ended tasks must not hold a million copies.
func (m *machine) internNode(id []byte) NodeID {
	if n := m.nodes[NodeID(id)]; n != nil {
		return n.id
	}
	return NodeID(id)
}

// check refuses what no state machine has written.
func (t *task) check(m *machine) error {
	problem := ""
	switch {
	case t.id == 0 || t.id > m.lastTask:
		problem = "its ID is out of range"
	case t.state < Queued:
		problem = "it has no state"
	case len(t.spec) == 0:
		problem = "it has no spec"
	case (t.state == Running) != (t.node != nil):
		problem = "its state and its node contradict each other"
	case t.ready && t.state != Queued:
		problem = "it is ready but not queued"
	case t.state.Terminal() != (t.finishSeq != 0) || t.finishSeq > m.finishSeq:
		problem = "its state and its place among the finished tasks contradict each other"
	case t.submittedAt < 0 || t.startedAt < 0 || t.finishedAt < 0 || t.waited < 0 || t.dueAt < 0 || t.dueAt > maxUnixNano+int64(MaxRetryBackoff):
		problem = "a time is out of range"
	default:
		return nil
	}
	return &decodeError{problem: "task " + t.id.String() + ": " + problem}
}

func appendRemembered(b []byte, r *remembered) []byte {
	f := newFieldWriter(b)
	f.bytes(1, r.id[:])
	f.uint(2, uint64(r.first))
	f.uint(3, uint64(r.count))
	return f.done()
}

func decodeRemembered(b []byte) (r remembered, err error) {
	w := wire{b: b}
	f := w.fields()
	for f.next(&w) {
		switch f.key {
		case 1:
			if id := w.bytes(len(r.id)); len(id) == len(r.id) {
				r.id = RequestID(id)
			} else {
				w.fail("a request ID has %d bytes", len(id))
			}
		case 2:
			r.first = TaskID(w.uint(maxTaskID))
		case 3:
			r.count = uint32(w.uint(1<<32 - 1))
		default:
			f.unknown(&w, "the request")
		}
	}
	return r, w.end()
}
