package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"holdfast/consensus"
	"holdfast/fsm"
	"holdfast/node/forward"
	"holdfast/node/scheduler"
	"holdfast/node/worker"
	"holdfast/node/worker/dispatch"
	"holdfast/node/worker/lease"
)

// proc is one start of a node's process: the rooms wired as package node wires
// them, over a simulated network, disk, clock and executor.
type proc struct {
	host *host
	run  uint64 // also its incarnation
	disk *disk

	ctx    context.Context // of the process
	cancel context.CancelCauseFunc

	raftEnd *raftEnd
	state   *fsm.State
	group   *consensus.Group
	loop    *scheduler.Loop
	leases  *lease.Keeper
	hub     *dispatch.Hub
	forward *forward.Forwarder
	worker  *worker.Worker
	exec    *executor
	grouped chan struct{}
	failure sync.Once

	mu    sync.Mutex
	conns map[*conn]bool // guarded by mu
}

func newProc(h *host, run uint64) *proc {
	p := &proc{host: h, run: run, disk: h.disk, grouped: make(chan struct{}), conns: map[*conn]bool{}}
	p.ctx, p.cancel = context.WithCancelCause(h.w.ctx)
	p.raftEnd, p.exec = newRaftEnd(p, h.w.cfg.RPCTimeout), &executor{p: p} // it may be killed before it is open
	h.proc = p
	h.disk.open(p)
	return p
}

func (p *proc) now() time.Time { return p.host.clock.now() }

// open wires the process and starts it.
func (p *proc) open(bootstrap bool) error {
	w, id := p.host.w, fsm.NodeID(p.host.id)
	jitter := w.fork()
	var jitterMu sync.Mutex
	chance := func() float64 {
		jitterMu.Lock()
		defer jitterMu.Unlock()
		return jitter.Float64()
	}
	p.state = fsm.New(fsm.Limits{})
	p.loop = scheduler.NewLoop(scheduler.Config{State: p.state, Propose: p.proposeHere, Now: p.stateTime, Jitter: chance})
	p.leases = lease.NewKeeper(lease.Config{Duration: w.cfg.Lease, Workers: p.leasedWorkers, Propose: p.proposeHere, Now: p.now})
	p.hub = dispatch.New(dispatch.Config{State: p.state, Leases: p.leases, Propose: p.proposeReport, Verify: p.verifyLeader, Reported: p.loop.Wake})
	p.worker = worker.New(worker.Config{Node: id, Incarnation: p.run, Capacity: worker.Capacity{CPUMillis: cpuMillis, MemoryBytes: 1 << 30},
		Connect: p.connectWorker, Register: p.register, Executor: p.exec, Outputs: outputs{}, Now: p.now, Jitter: chance})
	d := p.disk
	var err error
	p.group, err = consensus.Open(consensus.Config{
		ID: p.host.id, Transport: p.raftEnd, Logs: logs{d}, Stable: stable{d}, Snapshots: snapshots{d},
		State: watched{consensus.Adapt(p.state), p}, EncodeBatch: fsm.EncodeBatch,
		CheckSnapshot: func(r io.Reader) error { return fsm.New(fsm.Limits{}).Restore(r) },
		Bootstrap:     bootstrap, Timing: w.cfg.Timing, Proposer: w.cfg.Proposer, Snapshot: w.cfg.Snapshot, Autopilot: w.cfg.Autopilot,
		Now: p.now, Elapsed: time.Now, // the bubble's clock, which nobody sets
		OnFatal: p.fail, OnApplied: p.applied, OnRestored: p.restored,
	})
	if err != nil {
		return fmt.Errorf("open the group of %s: %w", id, err)
	}
	p.forward = forward.New(forward.Config{Group: p.group, Open: p.openForward, Now: p.now, Logger: nullLogger})
	close(p.grouped)
	if p.ctx.Err() != nil { // it was killed meanwhile
		p.shut()
		return nil
	}
	p.group.OnLeaderChange(func(l consensus.LeaderInfo) {
		p.forward.LeaderChanged()
		p.worker.LeaderChanged()
		if l.Self {
			w.trace("leader %s term %d", p.host.id, l.Term)
			w.count("leaders")
			w.witness.leads(p, l.Term)
			w.group.Go(func() { w.pounce(p) })
		}
	})
	p.group.OnLeadership(p.lead)
	w.group.Go(p.work)
	return nil
}

// cpuMillis is what each machine offers; tasks ask for a few hundred.
const cpuMillis = 1000

// work runs tasks here once nothing of an earlier process is left and the
// cluster knows this one.
func (p *proc) work() {
	p.host.sandboxes.clear()
	if !p.host.is(func(h *host) bool { return h.joined }) {
		return
	}
	err := p.register(p.ctx)
	if err == nil {
		err = p.worker.Run(p.ctx)
	}
	if err != nil && p.ctx.Err() == nil {
		p.fail(err)
	}
}

// end is what becomes of a process that was killed: its goroutines cannot be
// stopped, so they find the world gone and end by themselves.
func (p *proc) end(power bool) {
	w := p.host.w
	p.cancel(errPowerLost)
	p.raftEnd.cancel()
	p.exec.close()
	p.mu.Lock()
	var conns []*conn
	for c := range p.conns {
		conns = append(conns, c)
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.abandon(w, !power)
	}
	if power {
		p.host.sandboxes.vanish()
	} else {
		p.host.sandboxes.kill(p)
		w.group.Go(func() { w.tell(p, evidenceRefused) })
	}
	select {
	case <-p.grouped:
	default:
		return
	}
	p.shut()
}

// shut ends what the process has started. It may be called twice.
func (p *proc) shut() {
	p.host.w.group.Go(func() {
		p.forward.Close()
		_ = p.group.Shutdown()
	})
}

// fail ends a process that cannot go on; a supervisor starts it again.
func (p *proc) fail(err error) {
	p.failure.Do(func() {
		w := p.host.w
		w.trace("%s ends itself: %v", p.host.id, err)
		w.count("ended itself")
		for _, fatal := range []error{consensus.ErrTailUnproven} {
			if errors.Is(err, fatal) {
				w.count(fatal.Error())
			}
		}
		var apply *consensus.ApplyError
		if errors.As(err, &apply) && p.ctx.Err() == nil && !errors.Is(err, errPowerLost) {
			w.problem("apply", "%s: %v", p.host.id, err)
		}
		if errors.Is(err, worker.ErrRemoved) || errors.Is(err, errForbidden) {
			if !p.host.is(func(h *host) bool { return h.leaving }) {
				w.problem("removed", "%s was told that it was removed, and nobody did: %v", p.host.id, err)
			}
		}
		w.group.Go(func() { p.exit() })
	})
}

// failLater is fail for callers that hold locks.
func (p *proc) failLater(err error) { p.host.w.group.Go(func() { p.fail(err) }) }

// exit ends the process by its own will.
func (p *proc) exit() {
	w, h := p.host.w, p.host
	w.mu.Lock()
	if h.proc != p {
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	h.crash(false)
	if sleep(w.ctx, 500*time.Millisecond) && h.is(func(h *host) bool { return h.wanted && h.proc == nil && !h.off }) {
		h.start(false)
	}
}

// diskStalls is node's rule for a write that takes too long.
func (p *proc) diskStalls(op string, elapsed time.Duration) (enough bool) {
	select {
	case <-p.grouped:
	default:
		return false
	}
	if !p.group.Leader().Self && elapsed < 30*time.Second {
		return false
	}
	err := fmt.Errorf("the disk has not finished one %s in %v", op, elapsed)
	p.host.w.count("disk stalls")
	p.host.w.group.Go(func() {
		p.group.Abandon(err)
		p.fail(err)
	})
	return true
}

// stateTime is the clock of the state's timers, as node's.
func (p *proc) stateTime() time.Time {
	if !p.ready() {
		return p.now()
	}
	return p.group.Time()
}

// lead runs one office, as node's does.
func (p *proc) lead(ctx context.Context, term uint64) {
	var parts sync.WaitGroup
	parts.Go(func() { p.leases.Run(ctx) })
	parts.Go(func() { p.hub.Lead(ctx, term) })
	parts.Go(func() { p.loop.Run(ctx) })
	parts.Wait()
}

func (p *proc) applied(index uint64, changes []fsm.Change) {
	p.loop.Notify(changes)
	p.leases.Notify(changes)
	p.hub.Notify(changes)
	p.host.w.witness.saw(p, index, changes)
}

func (p *proc) restored(index uint64) {
	p.host.w.count("snapshot restored")
	p.loop.Wake()
	p.leases.Notify([]fsm.Change{{Kind: fsm.ChangeNode}})
	p.hub.Restored()
	p.host.w.witness.restored(p, index)
}

func (p *proc) leasedWorkers() (out []lease.Worker) {
	for _, v := range p.state.Nodes() {
		if v.Registered && !v.Lost && !v.Removed {
			out = append(out, lease.Worker{Node: v.ID, Incarnation: v.Incarnation})
		}
	}
	return out
}

// keep notes a connection of the process, until it is closed.
func (p *proc) keep(c *conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, c)
	}
}

// whenAwake runs f now, or when the process is thawed.
func (p *proc) whenAwake(f func()) {
	w := p.host.w
	w.net.mu.Lock()
	frozen := w.net.frozen[p.host.id]
	w.net.mu.Unlock()
	if !frozen {
		f()
		return
	}
	w.group.Go(func() {
		if w.net.awake(w.ctx, p.host.id) == nil {
			f()
		}
	})
}

func (p *proc) openForward(ctx context.Context, leader string) (net.Conn, error) {
	near, far, to, err := p.reach(ctx, leader)
	if err != nil {
		return nil, err
	}
	p.host.w.group.Go(func() { _ = forward.Serve(to.ctx, to.group, far) })
	return near, nil
}

func (p *proc) connectWorker(ctx context.Context) (io.ReadWriteCloser, error) {
	leader := p.group.Leader()
	if leader.ID == "" {
		return nil, errors.New("no leader is known")
	}
	near, far, to, err := p.reach(ctx, leader.ID)
	if err != nil {
		return nil, err
	}
	p.host.w.group.Go(func() { _ = to.hub.Serve(to.ctx, fsm.NodeID(p.host.id), far) })
	return near, nil
}

// reach opens a stream to another process, or to this one.
func (p *proc) reach(ctx context.Context, id string) (near, far *conn, to *proc, err error) {
	w := p.host.w
	if p.ctx.Err() != nil {
		return nil, nil, nil, errPowerLost
	}
	if err := w.net.cross(ctx, p.host.id, id); err != nil {
		return nil, nil, nil, err
	}
	to = w.running(id)
	if to == nil || !to.ready() {
		return nil, nil, nil, errRefused
	}
	near, far = w.dial(p, to)
	return near, far, to, nil
}

func (p *proc) ready() bool {
	select {
	case <-p.grouped:
		return p.ctx.Err() == nil
	default:
		return false
	}
}

// watched is the state machine under the eyes of the witness.
type watched struct {
	consensus.StateMachine
	p *proc
}

func (s watched) Apply(index uint64, batch []byte) (fsm.Applied, error) {
	if err := s.p.host.w.witness.entry(s.p, index, batch); err != nil {
		return fsm.Applied{}, err
	}
	return s.StateMachine.Apply(index, batch)
}
