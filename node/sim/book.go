package sim

import (
	"encoding/hex"
	"sort"
	"sync"
	"time"

	"holdfast/fsm"
)

// book is what the clients know: what they were promised, and how far the
// cluster had come when they were told.
type book struct {
	w *World

	mu       sync.Mutex
	submits  map[string]*submission // guarded by mu, by name
	cancels  map[fsm.TaskID]bool    // guarded by mu: acknowledged
	acked    []fsm.TaskID           // guarded by mu, in order of their answers
	progress []milestone            // guarded by mu: rising
}

// milestone: by then somebody had been answered from this index.
type milestone struct {
	at    time.Time
	index uint64
}

// submission is one request of a client's, under one request ID.
type submission struct {
	name    string
	tasks   int
	outcome outcome
	first   fsm.TaskID
	count   uint32
}

type outcome uint8

const (
	unknown outcome = iota
	refused         // definitely: nothing was changed
	accepted
)

func newBook(w *World) *book {
	return &book{w: w, submits: map[string]*submission{}, cancels: map[fsm.TaskID]bool{}}
}

// nameOf is how a task says whose it is.
func nameOf(id fsm.RequestID) string { return hex.EncodeToString(id[:]) }

// floor is the index that every linearizable answer must reach whose question
// begins now.
func (b *book) floor() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.progress); n > 0 {
		return b.progress[n-1].index
	}
	return 0
}

// answered notes an answer from an index, and holds a linearizable one to the
// floor that was there when it was asked.
func (b *book) answered(what string, floor, index uint64) {
	if index < floor {
		b.w.problem("linearizable", "%s answers from index %d, and an earlier answer came from %d", what, index, floor)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.progress); n == 0 || b.progress[n-1].index < index {
		b.progress = append(b.progress, milestone{time.Now(), index})
	}
}

// knownBy is the index that had been answered by a moment.
func (b *book) knownBy(at time.Time) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := sort.Search(len(b.progress), func(i int) bool { return b.progress[i].at.After(at) })
	if i == 0 {
		return 0
	}
	return b.progress[i-1].index
}

// begin notes a submission before it is sent.
func (b *book) begin(name string, tasks int) *submission {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &submission{name: name, tasks: tasks}
	b.submits[name] = s
	return s
}

// end notes what a submission was answered. Two answers to one request ID must
// be the same.
func (b *book) end(s *submission, o outcome, r fsm.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case o == accepted && s.outcome == accepted && (s.first != r.First || s.count != r.Count):
		b.w.problem("request", "%s was answered with %s+%d and %s+%d", s.name, s.first, s.count, r.First, r.Count)
	case o == accepted:
		if s.outcome != accepted {
			for i := range r.Count {
				b.acked = append(b.acked, r.First+fsm.TaskID(i))
			}
		}
		s.outcome, s.first, s.count = accepted, r.First, r.Count
		if int(r.Count) != s.tasks {
			b.w.problem("lost", "%s asked for %d tasks and was acknowledged %d", s.name, s.tasks, r.Count)
		}
	case o == refused && s.outcome == unknown:
		s.outcome = refused
	}
}

// some is a task that was acknowledged, one of the latest.
func (b *book) some(draw func(int) int) (fsm.TaskID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.acked) == 0 {
		return 0, false
	}
	recent := min(len(b.acked), 40)
	return b.acked[len(b.acked)-1-draw(recent)], true
}

func (b *book) cancelled(id fsm.TaskID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancels[id] = true
}
