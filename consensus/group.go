package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"holdfast/fsm"
)

// Group is this node's part of one raft group. See the package comment for its
// goroutines.
type Group struct {
	cfg     Config
	id      string
	raft    *raft.Raft
	log     hclog.Logger
	metrics *Metrics

	overlap    *overlap
	link       *link
	contacts   *contacts
	applier    *applier
	proposer   *proposer
	leadership *leadership
	reader     *reader
	failover   *failoverDriver

	transferring chan struct{} // a mutex that can be given up on
	configuring  chan struct{} // the same, for changes of the configuration
	restoring    chan struct{} // the same, for user restores
	stability    stability

	cancel     context.CancelFunc
	background sync.WaitGroup
	proposing  sync.WaitGroup
	dead       chan struct{} // closed when raft is gone or given up: frees all futures
	deadOnce   sync.Once
	fatalOnce  sync.Once
	closeOnce  sync.Once
	closeErr   error
}

// Open starts this node's part of the group over what the stores hold.
func Open(cfg Config) (*Group, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	metrics, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("consensus: register metrics: %w", err)
	}
	g := &Group{
		cfg: cfg, id: cfg.ID, log: cfg.Logger, metrics: metrics,
		contacts:     newContacts(cfg.Now),
		transferring: make(chan struct{}, 1),
		configuring:  make(chan struct{}, 1),
		restoring:    make(chan struct{}, 1),
		dead:         make(chan struct{}),
	}
	g.overlap = newOverlap(&g.cfg, g.dead, g.Abandon)
	g.applier = &applier{
		sm: cfg.State, encode: cfg.EncodeBatch, applied: newAppliedIndex(), log: g.overlap, metrics: metrics, now: cfg.Now, onFatal: g.fatalStop,
		compress: cfg.Compress, decompress: cfg.Decompress,
		snapBytes: cfg.Snapshot.Bytes, snapAsk: make(chan struct{}, 1),
	}
	if cfg.OnApplied != nil {
		g.applier.onApplied.add(cfg.OnApplied)
	}
	if cfg.OnRestored != nil {
		g.applier.onRestored.add(cfg.OnRestored)
	}
	inst := &installs{metrics: metrics, repair: g.repair}
	g.applier.onRestored.add(func(uint64) { inst.restored() })
	g.link = newLink(&g.cfg, g.contacts, inst, g.applier.applied, g.overlap)
	g.proposer = g.newProposer()
	g.applier.onApplied.add(func(uint64, []fsm.Change) { g.proposer.witness() })
	g.reader = &reader{g: g, wake: make(chan struct{}, 1)}
	g.failover = newFailoverDriver(g)
	g.link.ahead = g.failover.ahead
	g.leadership = &leadership{g: g}
	g.leadership.info.Store(&LeaderInfo{})
	if cfg.OnLeaderChange != nil {
		g.leadership.onChange = append(g.leadership.onChange, cfg.OnLeaderChange)
	}
	if !cfg.Autopilot.Disabled {
		g.leadership.duties = append(g.leadership.duties, g.autopilot)
	}
	if err := g.startRaft(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.overlap.start(g.raft)
	g.link.start()
	g.proposing.Go(g.proposer.run)
	g.background.Go(func() { g.leadership.run(ctx) })
	g.background.Go(func() { g.reader.run(ctx) })
	g.background.Go(func() { g.failover.run(ctx) })
	g.background.Go(func() { g.snapshotByBytes(ctx) })
	return g, nil
}

func (g *Group) newProposer() *proposer {
	p := newProposer()
	p.limits, p.encode, p.now, p.smNow = g.cfg.Proposer, g.cfg.EncodeBatch, g.cfg.Now, g.cfg.State.Now
	p.elapsed = g.cfg.Elapsed
	p.leader, p.metrics = g.notLeader, g.metrics
	p.apply = func(entry []byte, term uint64) raft.ApplyFuture {
		return releasable(g.raft.ApplyLog(raft.Log{Data: entry, Extensions: bind(term)}, 0), g.dead)
	}
	p.stuck, p.onStuck = g.transferStuckAfter(), func() { g.Abandon(ErrTransferStuck) }
	return p
}

func (g *Group) startRaft() error {
	c, rc := &g.cfg, g.cfg.raftConfig()
	if c.Bootstrap {
		self := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(c.ID), Address: c.Transport.LocalAddr()}}}
		err := raft.BootstrapCluster(rc, c.Logs, c.Stable, c.Snapshots, g.link, self)
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("consensus: bootstrap: %w", err)
		}
	}
	r, err := raft.NewRaft(rc, g.applier, g.overlap, c.Stable, c.Snapshots, g.link)
	if err != nil {
		return fmt.Errorf("consensus: start raft: %w", err)
	}
	g.raft = r
	g.link.term, g.link.last = r.CurrentTerm, r.LastIndex
	if failed := g.applier.failed.Load(); failed != nil {
		return fmt.Errorf("consensus: start raft: %w", errors.Join(failed, r.Shutdown().Error()))
	}
	return nil
}

// fatalStop ends this node's part in the group after the state machine failed.
// It is called on the apply goroutine, which must not wait for it.
func (g *Group) fatalStop(err *ApplyError) { go g.Abandon(err) }

func (g *Group) fatal(err error) {
	g.fatalOnce.Do(func() {
		g.log.Error("the raft group has failed on this node", "error", err)
		if g.cfg.OnFatal != nil {
			go g.cfg.OnFatal(err)
		}
	})
}

// repair ends a loop of snapshot installs, see installs.
func (g *Group) repair(index, term uint64) {
	g.link.cut("repair")
	err := releasable(g.raft.Shutdown(), g.dead).Error()
	if err == nil {
		if err = dropTail(g.overlap, index, term); err == nil {
			err = fmt.Errorf("%w (snapshot %d of term %d)", ErrTailDropped, index, term)
		}
	}
	g.Abandon(err)
}

// drainTime is how long Shutdown lets the entry in flight end. A leader that
// lost its majority knows after its lease; a stuck disk never ends.
func (g *Group) drainTime() time.Duration { return 2 * (g.cfg.Timing.Lease + g.cfg.Timing.Heartbeat) }

// Shutdown ends the group on this node: duties are cancelled, what is queued is
// refused with ErrStopped, the entry in flight gets its result or
// ErrUnknownOutcome. The stores and the transport stay open, they belong to
// the caller. A leader should call TransferLeadership before.
func (g *Group) Shutdown() error {
	g.closeOnce.Do(func() {
		g.proposer.shut(gateStopped)
		drained := make(chan struct{})
		go func() { g.proposing.Wait(); close(drained) }()
		t := time.NewTimer(g.drainTime())
		select {
		case <-drained:
		case <-t.C:
		case <-g.dead:
		}
		t.Stop()
		g.cancel()
		g.awaitRestore()
		f := g.raft.Shutdown()
		g.link.cut("shutdown")
		stopped := make(chan error, 1)
		go func() {
			err := f.Error()
			g.overlap.close()
			stopped <- err
		}()
		select {
		case g.closeErr = <-stopped:
		case <-time.After(g.drainTime()):
			g.closeErr = fmt.Errorf("consensus: raft did not stop in %v: is the disk stuck?", g.drainTime())
		}
		g.deadOnce.Do(func() { close(g.dead) })
		g.link.close()
		g.applier.applied.fail(ErrStopped)
		<-drained
		g.background.Wait()
	})
	return g.closeErr
}

// restoreGrace is how long Shutdown waits for a user's restore that is under
// way: the library panics when it is shut down between the snapshot and the
// state.
const restoreGrace = 30 * time.Second

func (g *Group) awaitRestore() {
	t := time.NewTimer(restoreGrace)
	defer t.Stop()
	select {
	case g.restoring <- struct{}{}: // and none may begin
	case <-t.C:
	}
}

func (g *Group) notLeader() *NotLeaderError {
	info := g.leadership.info.Load()
	if info.Self {
		return &NotLeaderError{} // about to be in office, or just deposed
	}
	return &NotLeaderError{ID: info.ID, Addr: info.Addr}
}

// servers is the latest configuration, committed or not.
func (g *Group) servers() []raft.Server {
	return g.raft.GetConfiguration().Configuration().Servers
}

// Propose proposes one command and waits. Errors: *NotLeaderError,
// ErrOverloaded, ErrTooLarge, ErrStopped (all definite: nothing was appended),
// ErrUnknownOutcome, also when ctx ends first.
func (g *Group) Propose(ctx context.Context, cmd []byte) (fsm.Result, uint64, error) {
	return g.proposer.proposeOne(ctx, cmd)
}

// ProposeAsync proposes commands as one unit of one entry and calls done with a
// result for each and the entry's index, or with an error as Propose returns.
// It never blocks. done must not block either: a refusal runs it before
// ProposeAsync returns, anything else on the goroutine that proposes. The
// commands' bytes belong to the group until then.
func (g *Group) ProposeAsync(cmds [][]byte, done func([]fsm.Result, uint64, error)) {
	g.proposer.propose(0, cmds, done)
}

// ProposeIn is ProposeAsync for what was decided in the office of a term (see
// OnLeadership): it takes effect in that office or not at all.
func (g *Group) ProposeIn(term uint64, cmds [][]byte, done func([]fsm.Result, uint64, error)) {
	g.proposer.propose(term, cmds, done)
}

// ReadIndex returns an index that covers everything answered before the call,
// by any node. With WaitApplied(index), here or on another node, a local read
// is linearizable. Errors: *NotLeaderError, ErrNoQuorum, ErrStopped, ctx's.
func (g *Group) ReadIndex(ctx context.Context) (uint64, error) { return g.reader.readIndex(ctx) }

// WaitApplied returns when the state machine here has applied index.
func (g *Group) WaitApplied(ctx context.Context, index uint64) error {
	return g.applier.applied.wait(ctx, index)
}

// Time is what a batch would be stamped with now: this node's clock, or the
// state's time where that is ahead of it, which goes on by itself. Whoever
// waits for a time of the state's, waits by this clock.
func (g *Group) Time() time.Time { return time.Unix(0, g.proposer.stamp()) }

// AppliedIndex is the index of the last entry that the state machine applied.
func (g *Group) AppliedIndex() uint64 { return g.applier.applied.index.Load() }

// CommitIndex is the index of the last entry that this node knows to be
// committed; it may not be applied yet.
func (g *Group) CommitIndex() uint64 { return g.overlap.clamp(g.raft.CommitIndex()) }

// Age is for reads with a bound on their age: at most so long ago the local
// state was current. ok is false if that cannot be said at all.
func (g *Group) Age() (age time.Duration, ok bool) { return g.age() }

// Leader returns the leader that this node knows.
func (g *Group) Leader() LeaderInfo { return *g.leadership.info.Load() }

// OnLeaderChange calls f with the leader known now and on every change, in
// order. f must not block, nor register callbacks.
func (g *Group) OnLeaderChange(f func(LeaderInfo)) {
	g.leadership.mu.Lock()
	defer g.leadership.mu.Unlock()
	g.leadership.onChange = append(g.leadership.onChange[:len(g.leadership.onChange):len(g.leadership.onChange)], f)
	f(g.Leader())
}

// OnLeadership runs f on its own goroutine in every term in which this node
// leads, once everything committed before the term is applied here. ctx ends at
// once when the leadership is lost; f must return soon after.
func (g *Group) OnLeadership(f func(ctx context.Context, term uint64)) { g.leadership.addDuty(f) }

// OnApplied calls f after each entry from now on, in order, on the apply
// goroutine: everything waits for it, so it must only take note.
func (g *Group) OnApplied(f func(index uint64, changes []fsm.Change)) { g.applier.onApplied.add(f) }

// OnRestored calls f on the apply goroutine after the state was replaced by a
// snapshot: whatever was derived from changes must be derived anew.
func (g *Group) OnRestored(f func(index uint64)) { g.applier.onRestored.add(f) }

// Evidence reports that something speaks against peer, see the kinds. It never
// blocks, and may come from anyone: forged evidence costs at most
// FailoverConfig.PerMinute elections a minute.
func (g *Group) Evidence(peer, kind string) { g.failover.report(evidence{peer: peer, kind: kind}) }

// GossipDead reports that gossip declared peer dead, and how many others have
// said so too.
func (g *Group) GossipDead(peer string, confirmations int) {
	g.failover.report(evidence{peer: peer, kind: KindGossipDead, confirmations: confirmations})
}

// Stats returns raft's own figures for people, and the applied index.
func (g *Group) Stats() map[string]string {
	s := g.raft.Stats()
	s["fsm_applied_index"] = fmt.Sprint(g.AppliedIndex())
	return s
}
