package lease

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/fsm"
)

// DefaultDuration is the lease. A worker that renews six times per lease and
// keeps a sixth as margin outlives a change of leader by the timers (1.5 s
// after the host of a leader is cut off, P5) without touching its tasks; and a
// dead worker's tasks run elsewhere after 3 s.
const DefaultDuration = 3 * time.Second

// retryPause is the wait after a proposal that failed while the office lasts
// (overload): long enough to let the queue move, short against a lease.
const retryPause = 100 * time.Millisecond

// Worker is one start of a node's process, as the state knows it.
type Worker struct {
	Node        fsm.NodeID
	Incarnation uint64
}

// Config is what a Keeper needs. All fields but Now and Logger are required.
type Config struct {
	Duration time.Duration // 0 = DefaultDuration
	// Workers lists those that the state holds as registered, neither lost nor removed.
	Workers func() []Worker
	// Propose commits commands and returns their results in order. ctx derives
	// from Run's: what that office did not append itself must never be committed.
	Propose func(ctx context.Context, commands [][]byte) ([]fsm.Result, error)
	Now     func() time.Time // must carry a monotonic reading; nil = time.Now
	Logger  hclog.Logger
}

// Keeper holds the leases of all workers while this node leads.
type Keeper struct {
	cfg  Config
	wake chan struct{} // capacity 1: the set of workers may have changed

	mu      sync.Mutex
	leading bool
	entries map[fsm.NodeID]*entry
}

type entry struct {
	incarnation uint64
	heard       time.Time
	expiring    bool // the loss is decided: no renewal counts any more
}

// NewKeeper makes a Keeper that knows nobody until Run.
func NewKeeper(cfg Config) *Keeper {
	if cfg.Duration <= 0 {
		cfg.Duration = DefaultDuration
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &Keeper{cfg: cfg, wake: make(chan struct{}, 1), entries: map[fsm.NodeID]*entry{}}
}

// Duration is the lease that acknowledgements grant.
func (k *Keeper) Duration() time.Duration { return k.cfg.Duration }

// Heard records that a renewal of the worker arrived now. False means that it
// must not be acknowledged: this node does not lead, the state does not hold
// this incarnation as alive, or its loss is already decided. After true the
// caller verifies its leadership before it acknowledges.
func (k *Keeper) Heard(node fsm.NodeID, incarnation uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.leading {
		return false
	}
	e := k.entries[node]
	if e == nil || e.incarnation != incarnation {
		// A registration may be newer than the last Notify.
		k.refresh()
		e = k.entries[node]
	}
	if e == nil || e.incarnation != incarnation || e.expiring {
		return false
	}
	e.heard = k.cfg.Now()
	return true
}

// Notify looks at changes of the state; it never blocks.
func (k *Keeper) Notify(changes []fsm.Change) {
	for i := range changes {
		if changes[i].Kind == fsm.ChangeNode {
			select {
			case k.wake <- struct{}{}:
			default: // one wake is enough
			}
			return
		}
	}
}

// Run keeps the leases for one office: from now, when everything committed
// before the office has been applied, until ctx ends. Every worker of the
// state starts with one full lease.
func (k *Keeper) Run(ctx context.Context) {
	k.mu.Lock()
	clear(k.entries)
	k.leading = true
	k.refresh()
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.leading = false
		clear(k.entries)
		k.mu.Unlock()
	}()

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		lost, next := k.due()
		if len(lost) > 0 {
			if err := k.expire(ctx, lost); err != nil {
				k.cfg.Logger.Warn("could not declare silent workers lost, trying again", "workers", len(lost), "error", err)
				next = retryPause
			} else {
				continue
			}
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-timer.C:
		}
	}
}

// refresh takes the set of workers from the state; the caller holds the lock.
// Someone new starts with one full lease.
func (k *Keeper) refresh() {
	workers := k.cfg.Workers()
	known := make(map[fsm.NodeID]bool, len(workers))
	now := k.cfg.Now()
	for _, w := range workers {
		known[w.Node] = true
		if e := k.entries[w.Node]; e == nil || e.incarnation != w.Incarnation {
			k.entries[w.Node] = &entry{incarnation: w.Incarnation, heard: now}
		}
	}
	for id := range k.entries {
		if !known[id] {
			delete(k.entries, id)
		}
	}
}

// due decides who is lost and says how long until somebody else may be.
func (k *Keeper) due() (lost []Worker, next time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	now := k.cfg.Now()
	next = time.Hour
	for id, e := range k.entries {
		left := k.cfg.Duration - now.Sub(e.heard)
		if left > 0 && !e.expiring {
			next = min(next, left)
			continue
		}
		// From here on Heard says no: an acknowledgement now would let the
		// worker run on beyond the decision.
		e.expiring = true
		lost = append(lost, Worker{Node: id, Incarnation: e.incarnation})
	}
	slices.SortFunc(lost, func(a, b Worker) int { return cmp.Compare(a.Node, b.Node) })
	return lost, next
}

// expire proposes the losses and forgets those workers once it is committed.
// While the outcome is unknown they stay in "expiring".
func (k *Keeper) expire(ctx context.Context, lost []Worker) error {
	commands := make([][]byte, 0, len(lost))
	for _, w := range lost {
		body := fsm.ExpireWorker{Node: w.Node, Incarnation: w.Incarnation}
		command, err := fsm.NewCommand(fsm.CmdExpireWorker, fsm.RequestID{}, "", body)
		if err != nil {
			return fmt.Errorf("encode the loss of node %s: %w", w.Node, err)
		}
		commands = append(commands, command)
	}
	if _, err := k.cfg.Propose(ctx, commands); err != nil {
		return fmt.Errorf("propose the loss of %d workers: %w", len(lost), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range lost {
		// Whatever each result says, the state has decided: a worker that it
		// still holds as alive registered again, and gets a lease of its own.
		if e := k.entries[w.Node]; e != nil && e.incarnation == w.Incarnation && e.expiring {
			delete(k.entries, w.Node)
		}
		k.cfg.Logger.Warn("worker is lost: it did not renew its lease", "node", w.Node, "incarnation", w.Incarnation, "lease", k.cfg.Duration)
	}
	return nil
}
