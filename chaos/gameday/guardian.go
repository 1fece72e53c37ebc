package gameday

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"holdfast/client"
)

// Times of the guardian.
const (
	// renewWithin is how long a fault lasts without a word from the tester.
	renewWithin = 5 * time.Second
	// watchEvery is the rhythm at which it looks at the others.
	watchEvery = time.Second
	// healWithin bounds the proof of a heal.
	healWithin = 2 * time.Minute
)

// Guardian stands beside one node.
type Guardian struct {
	host Host
	key  ed25519.PublicKey
	now  func() time.Time

	mu      sync.Mutex
	journal *journal
	cluster string
	node    string
	others  []string // addresses of the other members
	force   *force
	last    Report
	wg      sync.WaitGroup
}

// force is a fault in force.
type force struct {
	order   *Order
	target  target
	renewed time.Time
	heal    chan string // why; capacity 1
}

// Report is what a guardian says of itself.
type Report struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Action  Action `json:"action,omitempty"` // in force, or the last
	InForce bool   `json:"in_force"`
	Why     string `json:"why,omitempty"` // it was healed
	// Healed tells that the node was seen to serve after the heal; TookMS is
	// how long that took.
	Healed bool   `json:"healed"`
	TookMS int64  `json:"took_ms,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Open starts a guardian beside the node with a data folder. A fault that an
// earlier one left is healed first.
func Open(ctx context.Context, data string, key ed25519.PublicKey) (*Guardian, error) {
	return open(ctx, nodeHost{data}, filepath.Join(data, "chaos-journal.jsonl"), key)
}

func open(ctx context.Context, h Host, path string, key ed25519.PublicKey) (*Guardian, error) {
	j, err := openJournal(path)
	if err != nil {
		return nil, err
	}
	g := &Guardian{host: h, key: key, now: time.Now, journal: j}
	if left := j.open; left != nil {
		// Whatever the proof says: a node that does not come back is the
		// operator's, and the report tells.
		g.mend(ctx, left.Order, *left.Target, "an earlier guardian left it")
	}
	st, err := h.Status(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask the node who it is: %w; start it before its guardian", err), j.f.Close())
	}
	g.cluster, g.node = st.ClusterID, st.AnsweredBy
	g.last.Cluster, g.last.Node = g.cluster, g.node
	return g, nil
}

// Do obeys a signed order, or says why not. The refusal is in the journal, too.
func (g *Guardian) Do(ctx context.Context, s *Signed) error {
	o, err := s.open(g.key, g.cluster, g.node, g.now())
	if err != nil {
		return fmt.Errorf("the order is refused: %w", err) // not signed: no line that others could fill the disk with
	}
	var status *client.ClusterStatus
	if o.Action == Pause || o.Action == Kill {
		if status, err = g.host.Status(ctx); err != nil {
			err = fmt.Errorf("the node does not say how the cluster is: %w", err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.journal.fresh(o.Nonce, g.now()) {
		return errors.New("the order is refused: it was used before")
	}
	if err == nil {
		err = g.obey(o, status)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the order is refused: %w", err), g.journal.write(entry{What: "refused", Why: err.Error(), Order: o}))
	}
	return nil
}

// obey does it. The lock is held.
func (g *Guardian) obey(o *Order, st *client.ClusterStatus) error {
	switch o.Action {
	case Renew:
		if g.force == nil {
			return errors.New("no fault is in force")
		}
		g.force.renewed = g.now()
		g.journal.used[o.Nonce] = o.Expires // no line: nothing changes
		return nil
	case Halt:
		if g.force != nil {
			g.force.end("the tester's halt")
		}
		return g.journal.write(entry{What: "halt", Order: o})
	}
	if g.force != nil {
		return fmt.Errorf("%s is in force: one at a time", g.force.order.Action)
	}
	if err := spare(st, o.Node); err != nil {
		return err
	}
	t, err := g.host.Find()
	if err != nil {
		return err
	}
	if err := g.journal.write(entry{What: "act", Order: o, Target: &t}); err != nil {
		return err
	}
	signal := syscall.SIGSTOP
	if o.Action == Kill {
		signal = syscall.SIGKILL
	}
	if err := g.host.Signal(t, signal); err != nil {
		return errors.Join(err, g.journal.write(entry{What: "healed", Why: "nothing was done: " + err.Error()}))
	}
	g.others = nil
	for _, m := range st.Members {
		if m.ID != o.Node {
			g.others = append(g.others, m.Addr)
		}
	}
	g.force = &force{order: o, target: t, renewed: g.now(), heal: make(chan string, 1)}
	g.last = Report{Cluster: g.cluster, Node: g.node, Action: o.Action, InForce: true}
	g.wg.Add(1)
	go g.watch(g.force)
	return nil
}

// spare is the quorum guard: the cluster must be whole, and able to lose a
// voter. So there is never more than one node down by orders: after the first
// the cluster is not whole.
func spare(st *client.ClusterStatus, node string) error {
	switch {
	case st.Leader == "":
		return errors.New("the cluster has no leader")
	case st.Tolerates < 1:
		return fmt.Errorf("the cluster tolerates the failure of %d voters", st.Tolerates)
	}
	for _, m := range st.Members {
		if !m.Healthy && m.ID != node {
			return fmt.Errorf("node %s is not healthy: one fault at a time in a cluster", m.ID)
		}
	}
	return nil
}

func (f *force) end(why string) {
	select {
	case f.heal <- why:
	default: // it ends already
	}
}

// watch waits for what ends a fault, and heals.
func (g *Guardian) watch(f *force) {
	defer g.wg.Done()
	over := time.NewTimer(f.order.For)
	defer over.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	ctx := context.Background() // its own: a fault must be healed, whoever has gone
	why := ""
	for why == "" {
		select {
		case <-over.C:
			why = "its time is over"
		case why = <-f.heal:
		case <-tick.C:
			why = g.alarm(ctx, f)
		}
	}
	g.mend(ctx, f.order, f.target, why)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.force = nil
}

// alarm is a reason to heal early; empty if there is none.
func (g *Guardian) alarm(ctx context.Context, f *force) string {
	g.mu.Lock()
	silent, others := g.now().Sub(f.renewed), g.others
	g.mu.Unlock()
	if silent > renewWithin {
		return fmt.Sprintf("the tester was silent for %s", silent.Round(time.Second))
	}
	for _, addr := range others {
		if err := g.host.Reach(ctx, addr); err != nil {
			return fmt.Sprintf("the node at %s was lost: %v", addr, err)
		}
	}
	return ""
}

// mend heals and waits until the node serves.
func (g *Guardian) mend(ctx context.Context, o *Order, t target, why string) {
	begun := g.now()
	err := g.record(entry{What: "heal", Why: why, Order: o, Target: &t})
	if o.Action == Pause {
		if serr := g.host.Signal(t, syscall.SIGCONT); serr != nil && !errors.Is(serr, errGone) {
			err = errors.Join(err, serr)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healWithin)
	defer cancel()
	serr := g.serves(ctx)
	took := g.now().Sub(begun)
	g.mu.Lock()
	g.last.Action, g.last.InForce, g.last.Why = o.Action, false, why
	g.last.Healed, g.last.TookMS = serr == nil, took.Milliseconds()
	if err = errors.Join(err, serr); err != nil {
		g.last.Error = err.Error()
	}
	g.mu.Unlock()
	done := entry{What: "healed", Why: why, TookMS: took.Milliseconds()}
	if serr != nil {
		done.What, done.Why = "not-healed", serr.Error()
	}
	_ = g.record(done) // the deed is done; the report tells of it as well
}

func (g *Guardian) record(e entry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.journal.write(e)
}

// serves waits until the node answers and knows a leader.
func (g *Guardian) serves(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := g.host.Status(ctx)
		if err == nil && st.Leader != "" && st.Index >= st.CommitIndex {
			return nil
		}
		if err == nil {
			err = errors.New("it knows no leader, or is behind")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the node does not serve: %w", err)
		}
	}
}

// Report tells of the fault in force, or of the last one.
func (g *Guardian) Report() Report {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

// Close heals what is in force and ends.
func (g *Guardian) Close() error {
	g.mu.Lock()
	if g.force != nil {
		g.force.end("the guardian ends")
	}
	g.mu.Unlock()
	g.wg.Wait()
	return g.journal.f.Close()
}
