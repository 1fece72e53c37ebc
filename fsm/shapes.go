package fsm

import "fmt"

// shape is a Shape that at least one task has. Tasks of equal shape share one,
// found by its encoding: a submission whose shape is known costs one map
// look-up and no decoding.
type shape struct {
	Shape
	key   string // the canonical encoding
	class *class
	refs  int
}

// class gathers the queued tasks that only a scheduler can tell apart by age:
// equal priority and equal demands on a worker.
type class struct {
	key   string
	shape Shape // the fields that matter for placement, alone
	refs  int   // shapes

	fresh taskList           // never ran: ascending, because IDs are
	back  minHeap[*taskBack] // came back for another attempt: in any order
	head  TaskID             // least ID of both
	pos   int                // in machine.lines[priority], 0 = empty
}

func (c *class) less(o *class) bool { return c.head < o.head }
func (c *class) setPos(p int)       { c.pos = p }

// taskBack is a task as an item of class.back.
type taskBack task

func (t *taskBack) less(o *taskBack) bool { return t.id < o.id }
func (t *taskBack) setPos(p int)          { t.backPos = int32(p) }

// owner is a principal that at least one task belongs to.
type owner struct {
	name string
	refs int
}

// placementKey is the class's key: the placement fields, encoded.
func placementShape(s *Shape) Shape {
	return Shape{
		Priority:    s.Priority,
		CPUMillis:   s.CPUMillis,
		MemoryBytes: s.MemoryBytes,
		Constraints: s.Constraints,
		Abilities:   s.Abilities,
		Placement:   s.Placement,
	}
}

// acquireShape returns the shape with this encoding and counts one reference.
func (m *machine) acquireShape(encoded []byte) (*shape, error) {
	if s := m.shapes[string(encoded)]; s != nil {
		s.refs++
		return s, nil
	}
	decoded, err := decodeShape(encoded)
	if err != nil {
		return nil, err
	}
	placement := placementShape(decoded)
	classKey, err := encMode.Marshal(placement)
	if err != nil {
		return nil, fmt.Errorf("encode placement: %w", err)
	}
	c := m.classes[string(classKey)]
	if c == nil {
		c = &class{key: string(classKey), shape: placement}
		m.classes[c.key] = c
	}
	c.refs++
	s := &shape{Shape: *decoded, key: string(encoded), class: c, refs: 1}
	m.shapes[s.key] = s
	return s, nil
}

func (m *machine) releaseShape(s *shape) {
	if s.refs--; s.refs > 0 {
		return
	}
	delete(m.shapes, s.key)
	if s.class.refs--; s.class.refs == 0 {
		delete(m.classes, s.class.key)
	}
}

func (m *machine) acquireOwner(name []byte) *owner {
	o := m.owners[string(name)]
	if o == nil {
		o = &owner{name: string(name)}
		m.owners[o.name] = o
	}
	o.refs++
	return o
}

func (m *machine) releaseOwner(o *owner) {
	if o.refs--; o.refs == 0 {
		delete(m.owners, o.name)
	}
}

// decodeShape decodes and checks a shape. Its encoding must be the canonical
// one, because tasks are classed by it.
func decodeShape(encoded []byte) (*Shape, error) {
	if len(encoded) > maxShapeBytes {
		return nil, &decodeError{problem: fmt.Sprintf("a shape of %d bytes is over the limit of %d", len(encoded), maxShapeBytes)}
	}
	s := new(Shape)
	if err := decodeStrict(encoded, s); err != nil {
		return nil, err
	}
	return s, s.Validate()
}
