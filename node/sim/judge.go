package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/chaos/history"
	"holdfast/fsm"
)

const (
	// comeBack is how long a whole network may need to work again: elections
	// by timers, restarts, snapshots, autopilot's patience.
	comeBack = 90 * time.Second
	// drain is how long the tasks that are left may need.
	drain = 20 * time.Minute
	// calm is how long a cluster that is whole must stay as it is.
	calm = 20 * time.Second
)

// judge waits until the cluster is whole again, and holds it to what the
// clients, the sandboxes and the witness know.
func (w *World) judge() {
	if !w.recovers() {
		return
	}
	if !w.wait(drain, w.idle) {
		c := w.leaderCounts()
		w.problem("liveness", "after %v of health %d tasks are queued and %d run; %s", drain, c.Queued, c.Running, w.stuck())
		return
	}
	w.history.phase(history.Settled)
	w.staysCalm()
	if !w.wait(comeBack, w.converged) {
		w.problem("liveness", "the members do not come to the same index: %s", w.standing())
		return
	}
	w.listAll()
	w.compareStates()
	w.compareTasks()
	if n := w.ledger.alive(); n > 0 {
		w.problem("leak", "%d sandboxes are alive although every task has ended", n)
	}
	w.figures()
}

// figures adds up what happened.
func (w *World) figures() {
	w.witness.mu.Lock()
	tasks, entries := len(w.witness.ends), int(w.witness.last)
	w.witness.mu.Unlock()
	w.ledger.mu.Lock()
	attempts := w.ledger.runs
	w.ledger.mu.Unlock()
	w.net.mu.Lock()
	sent, held := w.net.seen.sent, w.net.seen.held
	w.net.mu.Unlock()
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.counts["tasks"], w.counts["entries"], w.counts["attempts"] = tasks, entries, attempts
	w.counts["messages"], w.counts["messages held"] = sent, held
}

// recovers waits for removals, a leader, a write and a read through every
// member.
func (w *World) recovers() bool {
	removed := make(chan struct{})
	go func() { w.leaving.Wait(); close(removed) }()
	select {
	case <-removed:
	case <-time.After(comeBack):
		w.problem("liveness", "a member could not be removed within %v of health: %s", comeBack, w.standing())
		w.stop()
		<-removed
		return false
	}
	for _, id := range w.members("") {
		c := w.newClient("judge")
		ok := w.wait(comeBack, func() bool {
			ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
			defer cancel()
			cmd, err := fsm.NewCommand(fsm.CmdTick, c.requestID(), "judge", nil)
			if err != nil {
				return false
			}
			floor := w.book.floor()
			_, index, err := c.send(ctx, id, cmd, nil)
			if err == nil {
				w.book.answered("the last write through "+id, floor, index)
			}
			return err == nil
		})
		if !ok {
			w.problem("liveness", "no write succeeds through %s within %v of health: %s", id, comeBack, w.standing())
			return false
		}
	}
	return true
}

func (w *World) leaderCounts() fsm.Counts {
	if p := w.leader(); p != nil {
		return p.state.Counts()
	}
	return fsm.Counts{Queued: -1}
}

// idle says that no task is left and every worker has all of its capacity.
func (w *World) idle() bool {
	p := w.leader()
	if p == nil {
		return false
	}
	if c := p.state.Counts(); c.Queued != 0 || c.Running != 0 {
		return false
	}
	for _, n := range p.state.Nodes() {
		if n.UsedCPUMillis != 0 || n.Superseded != 0 {
			return false
		}
	}
	return true
}

// stuck names some tasks that do not end.
func (w *World) stuck() string {
	p := w.leader()
	if p == nil {
		return "nobody leads"
	}
	var b strings.Builder
	for _, v := range p.state.List(fsm.Filter{States: []fsm.TaskState{fsm.Queued, fsm.Running}, Limit: 3}) {
		fmt.Fprintf(&b, "%s state %d attempt %d on %s lost %d; ", v.ID, v.State, v.Attempt, v.Node, v.Lost)
	}
	for _, n := range p.state.Nodes() {
		fmt.Fprintf(&b, "%s lost=%v running=%d superseded=%d used=%d; ", n.ID, n.Lost, n.Running, n.Superseded, n.UsedCPUMillis)
	}
	return b.String()
}

// staysCalm holds a healthy cluster to its leader and to its logs: no
// elections, no snapshots sent to and fro.
func (w *World) staysCalm() {
	before := w.leader()
	if before == nil {
		return
	}
	term, sent := before.group.Leader().Term, w.counted("snapshot sent")
	sleep(w.ctx, calm)
	after := w.leader()
	switch {
	case after == nil:
		w.problem("calm", "a healthy cluster has lost its leader %s", before.host.id)
	case after.group.Leader().Term != term:
		w.problem("calm", "a healthy cluster went from term %d to %d", term, after.group.Leader().Term)
	}
	if again := w.counted("snapshot sent") - sent; again > len(w.members("")) {
		w.problem("calm", "%d snapshots were sent in %v of health", again, calm)
	}
}

func (w *World) counted(what string) int {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.counts[what]
}

// converged says that all members run and have applied the same.
func (w *World) converged() bool {
	ids := w.members("")
	var index uint64
	for i, id := range ids {
		p := w.running(id)
		if p == nil || !p.ready() {
			return false
		}
		at := p.group.AppliedIndex()
		if i > 0 && at != index {
			return false
		}
		index = at
	}
	return true
}

// standing is where everybody is, for people.
func (w *World) standing() string {
	var b strings.Builder
	for _, h := range w.hostsNow() {
		p := w.running(h.id)
		if p == nil || !p.ready() {
			fmt.Fprintf(&b, "%s down; ", h.id)
			continue
		}
		l := p.group.Leader()
		fmt.Fprintf(&b, "%s applied %d of %d, leader %q term %d, raft %s; ", h.id, p.group.AppliedIndex(), p.group.CommitIndex(), l.ID, l.Term, p.group.Stats()["state"])
	}
	return b.String()
}

// compareStates holds all members' states to the first one's.
func (w *World) compareStates() {
	var first *proc
	for _, id := range w.members("") {
		p := w.running(id)
		if p == nil {
			continue
		}
		if first == nil {
			first = p
		}
		if p.state.Index() == first.state.Index() && p.state.Hash() != first.state.Hash() {
			w.problem("state hash", "%s and %s end with different states at index %d", p.host.id, first.host.id, p.state.Index())
		}
	}
}

// compareTasks holds the state to what was promised.
func (w *World) compareTasks() {
	p := w.leader()
	if p == nil {
		return
	}
	b := w.book
	b.mu.Lock()
	defer b.mu.Unlock()
	owners := map[string]fsm.TaskID{} // spec name -> task
	for after := fsm.TaskID(0); ; {
		page := p.state.List(fsm.Filter{After: after})
		for _, v := range page {
			after = v.ID
			w.compareTask(v, owners)
		}
		if len(page) == 0 {
			break
		}
	}
	for _, s := range b.submits {
		for i := range s.tasks {
			name := fmt.Sprintf("%s.%d", s.name, i)
			id, there := owners[name]
			switch {
			case s.outcome == accepted && !there:
				w.problem("lost", "%s was acknowledged as %s and is lost", name, s.first+fsm.TaskID(i))
			case s.outcome == accepted && id != s.first+fsm.TaskID(i):
				w.problem("request", "%s was acknowledged as %s and is %s", name, s.first+fsm.TaskID(i), id)
			case s.outcome == refused && there:
				w.problem("refused", "%s was refused and is there as %s", name, id)
			}
		}
	}
}

// compareTask looks at one task. The caller holds the book.
func (w *World) compareTask(v *fsm.TaskView, owners map[string]fsm.TaskID) {
	var spec fsm.Spec
	if err := fsm.Unmarshal(v.SpecBytes, &spec); err != nil {
		w.problem("spec", "%s has a spec that nobody can read: %v", v.ID, err)
		return
	}
	if other, twice := owners[spec.Name]; twice {
		w.problem("twice", "%s took effect twice: as %s and as %s", spec.Name, other, v.ID)
	}
	owners[spec.Name] = v.ID
	request, _, _ := strings.Cut(spec.Name, ".")
	if w.book.submits[request] == nil {
		w.problem("request", "%s is %s, which nobody asked for", v.ID, spec.Name)
	}
	if !v.State.Terminal() {
		w.problem("terminal", "%s is in state %d in the end", v.ID, v.State)
	}
	w.witness.ended("the end", v)
	if w.book.cancels[v.ID] && v.State != fsm.Cancelled {
		w.problem("lost", "%s was cancelled, which was acknowledged, and ended in state %d", v.ID, v.State)
	}
	if v.Failures > v.Shape.RetryLimit+1 {
		w.problem("retries", "%s failed %d times with a retry limit of %d", v.ID, v.Failures, v.Shape.RetryLimit)
	}
	if v.State == fsm.Failed && v.EndReason == fsm.EndExit && v.Failures != v.Shape.RetryLimit+1 {
		w.problem("retries", "%s was given up after %d failures with a retry limit of %d", v.ID, v.Failures, v.Shape.RetryLimit)
	}
	if why := w.ledger.confirm(v); why != "" {
		w.problem("ledger", "%s: %s", v.ID, why)
	}
}
