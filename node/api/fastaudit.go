package api

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"holdfast/fsm"
)

// fastFlush is the audit's view of the requests that were read together. A
// record takes 4 us (two JSON encodings and a MAC), more than all the rest that
// this package does for a task, and one goroutine writes them all. So there is
// one per flush, with the tasks that it made, written when its last request has
// an outcome; and a note for each kind of refusal, with how many there were. A
// flush is a few milliseconds of one session: who, from where, what and how
// many are exact, the time is that of the last outcome. With 64 callers a
// record stands for some 20 tasks, with 1024 for more than 100
// (BenchmarkFastQUIC tells), which leaves 0.2 us for each or less.
type fastFlush struct {
	f       *fastSession
	started time.Time
	newest  fsm.TaskID // that this node had by then

	mu       sync.Mutex
	left     int // requests without an outcome
	many     bool
	tasks    taskSpans
	refusals []refusals
}

type refusals struct {
	outcome string
	n       int
}

// refuse ends one request of the flush.
func (l *fastFlush) refuse(op *fastOp, number uint64, size int, p *problem) {
	l.f.refuse(op, number, size, p, l.f.s.cfg.Now().Sub(l.started))
	l.ended(op, 0, 0, p.code())
}

// ended counts an outcome; "" is a success. The last one writes the record.
func (l *fastFlush) ended(op *fastOp, first fsm.TaskID, count uint32, outcome string) {
	l.mu.Lock()
	l.many = l.many || op == l.f.s.fastOps[1]
	if outcome == "" {
		l.tasks.add(first, count)
	} else {
		l.refused(outcome)
	}
	l.left--
	last := l.left == 0
	l.mu.Unlock()
	if last {
		l.record()
	}
}

func (l *fastFlush) refused(outcome string) {
	for i := range l.refusals {
		if l.refusals[i].outcome == outcome {
			l.refusals[i].n++
			return
		}
	}
	l.refusals = append(l.refusals, refusals{outcome, 1})
}

// record uses the claim of Begin. The notes come first: once it is used, the
// audit may close.
func (l *fastFlush) record() {
	f, action := l.f, l.f.s.fastOps[0].id
	if l.many {
		action = f.s.fastOps[1].id
	}
	rest := l.refusals
	target, outcome := l.tasks.String(), "ok"
	if l.tasks.count == 0 && len(rest) > 0 {
		target, outcome, rest = requests(rest[0].n), rest[0].outcome, rest[1:]
	}
	for _, r := range rest {
		f.s.cfg.Audit.Note(f.principal, f.source, action, requests(r.n), r.outcome)
	}
	f.s.cfg.Audit.End(f.principal, f.source, action, target, outcome)
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}

// taskSpans names tasks that come in rising order or nearly so.
type taskSpans struct {
	count       uint64
	first, last fsm.TaskID // of all
	spans       []span     // nil once there are too many
	scattered   bool
}

type span struct{ first, last fsm.TaskID }

// maxSpans bounds a record's target. Other sessions' tasks lie between the
// spans, so that there are few under a load of one's own, and many under that
// of others.
const maxSpans = 32

func (t *taskSpans) add(first fsm.TaskID, count uint32) {
	last := first + fsm.TaskID(count) - 1
	if t.count == 0 || first < t.first {
		t.first = first
	}
	t.last = max(t.last, last)
	t.count += uint64(count)
	switch n := len(t.spans); {
	case t.scattered:
	case n > 0 && t.spans[n-1].last+1 == first:
		t.spans[n-1].last = last
	case n == maxSpans:
		t.spans, t.scattered = nil, true
	default:
		t.spans = append(t.spans, span{first, last})
	}
}

// String gives the spans or, if there are too many, how many tasks there are
// between the first and the last.
func (t *taskSpans) String() string {
	if t.scattered {
		return fmt.Sprintf("%d of %s..%s", t.count, t.first, t.last)
	}
	var b strings.Builder
	for i, s := range t.spans {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(taskRange(s.first, uint32(s.last-s.first)+1))
	}
	return b.String()
}
