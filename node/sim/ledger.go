package sim

import (
	"fmt"
	"slices"
	"sync"

	"holdfast/fsm"
	"holdfast/node/worker/protocol"
)

// ledger stands outside the cluster: every sandbox writes to it when it starts
// and ends, with its token. It sees what no node can deny.
type ledger struct {
	w *World

	mu     sync.Mutex
	live   map[fsm.TaskID][]running      // guarded by mu
	newest map[fsm.TaskID]uint32         // guarded by mu: highest attempt ever started
	ends   map[protocol.Key]end          // guarded by mu: of sandboxes that ended by themselves
	starts map[protocol.Key][]fsm.NodeID // guarded by mu
	runs   int                           // guarded by mu
}

type running struct {
	key  protocol.Key
	node fsm.NodeID
}

// end is how a sandbox ended when nobody killed it.
type end struct {
	node   fsm.NodeID
	code   int32
	output string
}

func newLedger(w *World) *ledger {
	return &ledger{w: w, live: map[fsm.TaskID][]running{}, newest: map[fsm.TaskID]uint32{},
		ends: map[protocol.Key]end{}, starts: map[protocol.Key][]fsm.NodeID{}}
}

// begin notes a sandbox's start.
func (l *ledger) begin(node fsm.NodeID, key protocol.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs++
	for _, other := range l.live[key.Task] {
		l.w.problem("overlap", "%s: attempt %d on %s runs beside attempt %d on %s", key.Task, key.Attempt, node, other.key.Attempt, other.node)
	}
	if newest := l.newest[key.Task]; key.Attempt < newest {
		l.w.problem("superseded effect", "%s: attempt %d on %s starts after attempt %d", key.Task, key.Attempt, node, newest)
	}
	if earlier := l.starts[key]; len(earlier) > 0 {
		l.w.problem("overlap", "%s: attempt %d starts on %s, and did on %v", key.Task, key.Attempt, node, earlier)
	}
	l.newest[key.Task] = max(l.newest[key.Task], key.Attempt)
	l.starts[key] = append(l.starts[key], node)
	l.live[key.Task] = append(l.live[key.Task], running{key, node})
}

// finish notes a sandbox's end; own says that nobody killed it.
func (l *ledger) finish(node fsm.NodeID, key protocol.Key, own bool, code int32, output string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.live[key.Task] = slices.DeleteFunc(l.live[key.Task], func(r running) bool { return r.key == key && r.node == node })
	if !own {
		return
	}
	l.ends[key] = end{node, code, output}
	if newest := l.newest[key.Task]; key.Attempt < newest {
		l.w.problem("superseded effect", "%s: attempt %d on %s takes effect after attempt %d has started", key.Task, key.Attempt, node, newest)
	}
}

// alive is how many sandboxes run now.
func (l *ledger) alive() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.live {
		n += len(r)
	}
	return n
}

// confirm says what the ledger has against a task's final state, "" = nothing.
func (l *ledger) confirm(v *fsm.TaskView) string {
	if v.State != fsm.Succeeded {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := protocol.Key{Task: v.ID, Attempt: v.Attempt}
	e, ok := l.ends[key]
	switch {
	case !ok:
		return fmt.Sprintf("it succeeded by attempt %d, which never ended by itself", v.Attempt)
	case e.code != 0:
		return fmt.Sprintf("it succeeded by attempt %d, which exited with %d", v.Attempt, e.code)
	case e.node != v.Node:
		return fmt.Sprintf("it succeeded by attempt %d on %s, which ran on %s", v.Attempt, v.Node, e.node)
	case v.Result == nil || string(v.Result.Tail) != e.output:
		return fmt.Sprintf("it succeeded by attempt %d with another attempt's output", v.Attempt)
	}
	return ""
}
