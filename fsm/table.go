package fsm

import (
	"cmp"
	"slices"
)

// pageBits sets how many IDs share a page of the task table: 128 pointers are
// 1 KiB, which is the most that a lonely task costs beyond itself.
const (
	pageBits = 7
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
	last   NodeID         // of the last attempt that ended: its output lies there
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
// sorted slice are smaller and faster than a map, and are walked in the same
// order on every replica. Small pages bound what a task that outlives all its
// neighbours costs.
//
// A snapshot shares the slice of pages: it is only appended to, cut at its
// beginning, or replaced.
type taskTable struct {
	pages []*taskPage // ascending
	empty int         // pages without tasks, which are dropped in bulk
	n     int         // tasks
}

type taskPage struct {
	number uint64 // ID >> pageBits
	n      int
	slots  *[pageSize]*task // nil if n is 0
}

// find finds the page with the number, or the place where it would be.
func (tt *taskTable) find(number uint64) (int, bool) {
	if len(tt.pages) == 0 || number < tt.pages[0].number {
		return 0, false
	}
	if guess := number - tt.pages[0].number; guess < uint64(len(tt.pages)) && tt.pages[guess].number == number {
		return int(guess), true
	}
	return slices.BinarySearchFunc(tt.pages, number, func(p *taskPage, number uint64) int {
		return cmp.Compare(p.number, number)
	})
}

func (tt *taskTable) get(id TaskID) *task {
	i, ok := tt.find(uint64(id) >> pageBits)
	if !ok || tt.pages[i].n == 0 {
		return nil
	}
	return tt.pages[i].slots[id%pageSize]
}

// put adds a task whose ID is above all others'.
func (tt *taskTable) put(t *task) {
	number := uint64(t.id) >> pageBits
	if n := len(tt.pages); n == 0 || tt.pages[n-1].number != number {
		tt.pages = append(tt.pages, &taskPage{number: number})
		tt.empty++
	}
	p := tt.pages[len(tt.pages)-1]
	if p.n == 0 {
		p.slots = new([pageSize]*task)
		tt.empty--
	}
	p.slots[t.id%pageSize] = t
	p.n++
	tt.n++
}

func (tt *taskTable) remove(t *task) {
	i, _ := tt.find(uint64(t.id) >> pageBits)
	p := tt.pages[i]
	p.slots[t.id%pageSize] = nil
	p.n--
	tt.n--
	if p.n > 0 {
		return
	}
	p.slots = nil
	tt.empty++
	for len(tt.pages) > 0 && tt.pages[0].n == 0 {
		tt.pages = tt.pages[1:]
		tt.empty--
	}
	if tt.empty > 16 && tt.empty > len(tt.pages)/2 {
		// Into a new array: a snapshot may be walking the old one.
		kept := make([]*taskPage, 0, len(tt.pages)-tt.empty)
		for _, p := range tt.pages {
			if p.n > 0 {
				kept = append(kept, p)
			}
		}
		tt.pages, tt.empty = kept, 0
	}
}

// ascend calls f with the tasks from an ID on, at most limit pages of them,
// until f returns false. It returns the ID to go on from, 0 at the end.
func (tt *taskTable) ascend(from TaskID, limit int, f func(*task) bool) TaskID {
	i, _ := tt.find(uint64(from) >> pageBits)
	for ; i < len(tt.pages); i++ {
		p := tt.pages[i]
		if limit--; limit < 0 {
			return TaskID(p.number << pageBits)
		}
		for j := 0; p.n > 0 && j < pageSize; j++ {
			if t := p.slots[j]; t != nil && t.id >= from && !f(t) {
				return t.id
			}
		}
	}
	return 0
}

// descend is ascend in the other direction.
func (tt *taskTable) descend(from TaskID, limit int, f func(*task) bool) TaskID {
	i, ok := tt.find(uint64(from) >> pageBits)
	if !ok {
		i--
	}
	for ; i >= 0; i-- {
		p := tt.pages[i]
		if limit--; limit < 0 {
			return TaskID(p.number<<pageBits | (pageSize - 1))
		}
		for j := pageSize - 1; p.n > 0 && j >= 0; j-- {
			if t := p.slots[j]; t != nil && t.id <= from && !f(t) {
				return t.id
			}
		}
	}
	return 0
}
