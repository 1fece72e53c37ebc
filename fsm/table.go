package fsm

// pageBits sets how many IDs share a page of the task table: 1,024 pointers
// are 8 KiB, and what a snapshot copies under the lock at a time.
const (
	pageBits = 10
	pageSize = 1 << pageBits
)

// task is one task as it is kept in memory: about 300 bytes with a small spec.
// Everything that tasks have in common is shared through pointers.
//
// A task must be passed to machine.touch before any of its recorded fields
// (those up to the first gap) changes.
type task struct {
	id     TaskID
	shape  *shape
	owner  *owner
	node   *node          // while Running
	result *AttemptResult // of the last attempt that ended; immutable
	spec   []byte         // immutable

	index       uint64 // of the entry that last changed the task
	finishSeq   uint64 // terminal: the order of forgetting
	submittedAt int64
	startedAt   int64 // of the last attempt
	finishedAt  int64
	dueAt       int64 // Queued: since when it waits, or until when it is held back
	waited      int64 // ns in the queue, over the earlier attempts
	attempt     uint32
	failures    uint32
	lost        uint32
	state       TaskState
	reason      EndReason
	ready       bool // Queued, due, and in its class's line

	// Derived: never in a snapshot.
	prev, next *task  // in its class's line, its node's running tasks, or the finished tasks
	timerPos   int32  // in machine.timers, 0 = none
	backPos    int32  // in class.back, 0 = none
	gen        uint32 // of the last snapshot that has seen this record change
	held       uint16 // superseded attempts that may still run
}

// taskList is an intrusive list: a task is in at most one.
type taskList struct {
	head, tail *task
	n          int
}

func (l *taskList) push(t *task) {
	t.prev, t.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = t
	} else {
		l.head = t
	}
	l.tail = t
	l.n++
}

func (l *taskList) remove(t *task) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.head = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.tail = t.prev
	}
	t.prev, t.next = nil, nil
	l.n--
}

// taskTable maps IDs to tasks. IDs are dense and ascending, so pages in a
// slice are smaller and faster than a map, and are walked in the same order
// on every replica.
type taskTable struct {
	first uint64 // number of pages[0]
	pages []*taskPage
	n     int
}

type taskPage struct {
	slots [pageSize]*task
	n     int
}

func (tt *taskTable) page(number uint64) *taskPage {
	if number < tt.first || number-tt.first >= uint64(len(tt.pages)) {
		return nil
	}
	return tt.pages[number-tt.first]
}

func (tt *taskTable) get(id TaskID) *task {
	p := tt.page(uint64(id) >> pageBits)
	if p == nil {
		return nil
	}
	return p.slots[id%pageSize]
}

// put adds a task whose ID is above all others'.
func (tt *taskTable) put(t *task) {
	number := uint64(t.id) >> pageBits
	if len(tt.pages) == 0 {
		tt.first = number
	}
	for tt.first+uint64(len(tt.pages)) <= number {
		tt.pages = append(tt.pages, nil)
	}
	p := tt.pages[number-tt.first]
	if p == nil {
		p = new(taskPage)
		tt.pages[number-tt.first] = p
	}
	p.slots[t.id%pageSize] = t
	p.n++
	tt.n++
}

func (tt *taskTable) remove(t *task) {
	number := uint64(t.id) >> pageBits
	p := tt.page(number)
	p.slots[t.id%pageSize] = nil
	p.n--
	tt.n--
	if p.n > 0 {
		return
	}
	tt.pages[number-tt.first] = nil
	for len(tt.pages) > 0 && tt.pages[0] == nil {
		tt.pages = tt.pages[1:]
		tt.first++
	}
}
