package check

import (
	"slices"
	"strconv"
	"strings"

	"holdfast/chaos/history"
)

// life is all that a history shows of one task.
type life struct {
	key, task string
	rules     *history.Rules
	// steps are what a linearization must place: its submissions, its cancels,
	// and the strong reads that were about it.
	steps []step
	// Of its submissions.
	sent, oks, refused, unknown int
	sentAt                      int64           // the first
	acked                       *call           // the first that was acknowledged
	before                      int             // submissions until then, with it
	views                       []*history.View // one for each index, in order
	// read is the beginning of the last strong read that showed it.
	read   int64
	tokens []token
}

// step is one call with what it showed of one task, nil if it showed none.
type step struct {
	c *call
	v *history.View
}

// token is one attempt, as the ledger knows it.
type token struct {
	name               string
	begun, last, ended int64 // lines of the ledger; ended is 0 without an End
	at                 int64 // time of the first line
}

// book finds lives by their submission's key or by the task's ID.
type book struct {
	lives  []*life // in the order of their first mention
	byKey  map[string]*life
	byTask map[string]*life
}

func newBook() book {
	return book{byKey: map[string]*life{}, byTask: map[string]*life{}}
}

func (b *book) new(key, task string) *life {
	l := &life{key: key, task: task, read: -1}
	b.lives = append(b.lives, l)
	if key != "" && b.byKey[key] == nil {
		b.byKey[key] = l
	}
	if task != "" {
		b.byTask[task] = l
	}
	return l
}

// find returns the life that a key and an ID are about. A second task of the
// same key gets a life of its own.
func (b *book) find(key, task string) *life {
	if task != "" {
		if l := b.byTask[task]; l != nil {
			if l.key == "" && key != "" {
				b.link(l, key)
			}
			return l
		}
	}
	if key != "" {
		if l := b.byKey[key]; l != nil {
			switch {
			case task == "" || l.task == task:
				return l
			case l.task == "":
				l.task = task
				b.byTask[task] = l
				return l
			}
		}
	}
	return b.new(key, task)
}

// link gives the task of an ID the request that made it. What was known of the
// request alone is of one life with what was known of the ID alone.
func (b *book) link(l *life, key string) {
	other := b.byKey[key]
	switch {
	case other == nil:
	case other.task != "":
		return // the request's first task; this is another one
	default:
		l.steps = append(l.steps, other.steps...)
		l.tokens = append(l.tokens, other.tokens...)
		l.sent, l.oks, l.refused, l.unknown = l.sent+other.sent, l.oks+other.oks, l.refused+other.refused, l.unknown+other.unknown
		if l.sentAt == 0 || other.sent > 0 && other.sentAt < l.sentAt {
			l.sentAt = other.sentAt
		}
		if l.rules == nil {
			l.rules = other.rules
		}
		b.lives = slices.DeleteFunc(b.lives, func(x *life) bool { return x == other })
	}
	l.key = key
	b.byKey[key] = l
}

// note files a call that has ended under its task.
func (b *book) note(c *call) {
	switch {
	case c.submits():
		task := ""
		if c.ok() {
			task = c.task
		}
		l := b.find(c.key, task)
		if l.sent++; l.sent == 1 || c.invoked < l.sentAt {
			l.sentAt = c.invoked
		}
		if l.rules == nil {
			l.rules = c.rules
		}
		switch c.outcome {
		case history.OK:
			l.oks++
			if l.acked == nil {
				l.acked = c
			}
		case history.Refused:
			l.refused++
			return // no part of any order
		default:
			l.unknown++
		}
		l.steps = append(l.steps, step{c: c})
	case c.op == history.Cancel:
		if c.outcome == history.Refused && c.code != codeConflict && c.code != codeNotFound {
			return // it tells nothing of the task
		}
		if !c.ok() { // else its view is filed
			b.find("", c.task).add(step{c: c})
		}
	case c.strong() && c.op != history.List && c.outcome == history.Refused && c.code == codeNotFound:
		b.find("", c.task).add(step{c: c})
	}
}

func (l *life) add(s step) { l.steps = append(l.steps, s) }

// see files what an answer showed of a task.
func (b *book) see(v *history.View, c *call) *life {
	l := b.find(v.Key, v.Task)
	if c.strong() || c.op == history.Cancel {
		l.add(step{c, v})
		if c.strong() {
			l.read = max(l.read, c.invoked)
		}
	}
	at, found := slices.BinarySearchFunc(l.views, v.Index, func(x *history.View, i uint64) int {
		switch {
		case x.Index < i:
			return -1
		case x.Index > i:
			return 1
		}
		return 0
	})
	if !found {
		l.views = slices.Insert(l.views, at, v)
	}
	return l
}

// final is the task's end, nil if none was seen.
func (l *life) final() *history.View {
	for _, v := range l.views {
		if v.Terminal() {
			return v
		}
	}
	return nil
}

// number is that of a task's ID, 0 if it has none.
func number(task string) uint64 {
	digits, ok := strings.CutPrefix(task, "t")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// The codes of refusals that tell something of a task.
const (
	codeConflict = "conflict"
	codeNotFound = "not_found"
	codeTooStale = "stale_too_old"
)
