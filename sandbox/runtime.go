package sandbox

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/sandbox/cgroup"
)

// Config of a Runtime.
type Config struct {
	// CgroupParent names this node's groups ("holdfast-<CgroupParent>") and must
	// be its own among the nodes of one machine: [a-z0-9-]{1,64}.
	CgroupParent string
	// UIDBase is the first host user ID of the range that attempts run under,
	// one each, and UIDCount its length. Nobody else may use the range. Zero
	// takes 65,536 IDs above 2,000,000,000, chosen by CgroupParent.
	UIDBase, UIDCount int
	// Warm is how many sandboxes are kept ready from the first task on, and
	// WarmMax how many at most when many are asked for at a time; at least Warm.
	// Each takes some 0.5 MiB and saves its task some ms. Zero keeps none; every
	// task may also start cold.
	Warm, WarmMax int
	// Root is a folder whose system folders (usr, bin, lib and so on) the
	// sandboxes show in place of the host's. Empty is the host's.
	Root string
	// AllowMissing names walls that this machine may lack, of those that
	// Weakenable lists. One that is missing and not named here is a reason to
	// run nothing.
	AllowMissing []string
	// Logger may be nil.
	Logger hclog.Logger
}

const (
	defaultUIDCount = 1 << 16
	// Above systemd's ranges (they end at 1,879,048,191) and with all slots
	// below 2^31-1, which some tools take for the largest ID.
	defaultUIDStart = 2_000_000_000
	defaultUIDSlots = 2048
)

// startPatience bounds the setup of one sandbox, which takes a few ms. A
// machine that pages may take long; a hung one must not hold callers for ever.
const startPatience = 30 * time.Second

// Runtime starts sandboxes on this machine. It is safe for concurrent use.
type Runtime struct {
	log       hclog.Logger
	uidBase   int
	uidCount  int
	host      hostFacts
	weaker    []string // sorted; what host lacks and may lack
	cgroups   *cgroup.Manager
	class     class
	warmLeast int
	warmSize  int     // at most; 0 is no pool
	off       control // set by tests of this package alone
	wg        sync.WaitGroup
	closeOnce sync.Once

	holdUntil atomic.Int64  // see Extend; 0 = never called
	holdNews  chan struct{} // holdUntil has changed
	stopHold  chan struct{} // closed by Close
	holding   sync.WaitGroup

	launching sync.Mutex // held while a launcher starts; before mu

	warmStarts, coldStarts atomic.Uint64

	mu       sync.Mutex
	cannot   *ErrCannotIsolate // why nothing can run; nil when it can
	launcher *launcherClient
	living   map[string]*Sandbox
	pool     *pool // from the first Start on
	slots    slots
	closed   bool
}

// New looks at the machine and starts the launcher. A machine that cannot
// isolate is no error here: such a node can still do everything but run tasks.
// Then Check says why, and Start refuses.
func New(cfg Config) (*Runtime, error) { return newRuntime(cfg, 0) }

func newRuntime(cfg Config, off control) (*Runtime, error) {
	allowCoreLimit()
	return newRuntimeOn(readHostFacts(), cfg, off)
}

// newRuntimeOn is newRuntime on a machine that a test may make up.
func newRuntimeOn(host hostFacts, cfg Config, off control) (*Runtime, error) {
	if err := validID(cfg.CgroupParent); err != nil {
		return nil, fmt.Errorf("sandbox configuration: CgroupParent: %w", err)
	}
	if cfg.UIDBase == 0 && cfg.UIDCount == 0 {
		h := fnv.New32a()
		h.Write([]byte(cfg.CgroupParent))
		cfg.UIDCount = defaultUIDCount
		cfg.UIDBase = defaultUIDStart + int(h.Sum32()%defaultUIDSlots)*defaultUIDCount
	}
	if cfg.UIDBase < 1 || cfg.UIDCount < 2 || cfg.UIDBase+cfg.UIDCount > 1<<32-2 {
		return nil, fmt.Errorf("sandbox configuration: user IDs %d to %d are no range of ordinary users", cfg.UIDBase, cfg.UIDBase+cfg.UIDCount-1)
	}
	cfg.WarmMax = max(cfg.WarmMax, cfg.Warm)
	if cfg.Warm < 0 || cfg.WarmMax >= cfg.UIDCount/2 {
		return nil, fmt.Errorf("sandbox configuration: Warm is %d and WarmMax %d, want 0 to less than half of UIDCount", cfg.Warm, cfg.WarmMax)
	}
	if err := ValidAllowMissing(cfg.AllowMissing); err != nil {
		return nil, fmt.Errorf("sandbox configuration: AllowMissing: %w", err)
	}
	host.uids, host.allow = [2]int{cfg.UIDBase, cfg.UIDCount}, cfg.AllowMissing
	cl := class{root: cfg.Root, off: off}
	if err := cl.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	r := &Runtime{
		log:       cfg.Logger.Named("sandbox"),
		uidBase:   cfg.UIDBase,
		uidCount:  cfg.UIDCount,
		host:      host,
		class:     cl,
		warmLeast: cfg.Warm,
		warmSize:  cfg.WarmMax,
		off:       off,
		living:    map[string]*Sandbox{},
		slots:     newSlots(cfg.UIDCount),
		holdNews:  make(chan struct{}, 1),
		stopHold:  make(chan struct{}),
	}
	r.cannot = r.prepare(cfg.CgroupParent)
	r.holding.Go(r.keepHold)
	if r.cannot != nil {
		r.log.Warn("this machine cannot run tasks", "ability", r.cannot.Ability, "reason", r.cannot.Reason, "remedy", r.cannot.Remedy)
	}
	return r, nil
}

// prepare makes the parent groups and starts the launcher, or says why nothing
// can run.
func (r *Runtime) prepare(parent string) *ErrCannotIsolate {
	if cannot := r.host.missing(); cannot != nil {
		return cannot
	}
	m, err := cgroup.Open(r.host.controllers, parent)
	if err != nil {
		return cannotCgroup(err)
	}
	r.cgroups = m
	if r.host.swapAccount == unknown {
		l := r.host.controllers[cgroup.Memory]
		l.Base = filepath.Join(l.Base, "holdfast-"+parent)
		r.host.swapAccount = swapAccounted(l)
		if cannot := r.host.missing(); cannot != nil {
			return cannot
		}
	}
	r.weaker = r.host.weaker()
	if _, err := r.launch(); err != nil {
		return r.host.cannotLaunch(err)
	}
	return nil
}

// Check says whether sandboxes can be started; otherwise *ErrCannotIsolate.
func (r *Runtime) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cannot != nil {
		return r.cannot
	}
	return nil
}

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("the sandbox runtime is closed")

// launch returns the living launcher; it starts a new one if the last died.
func (r *Runtime) launch() (*launcherClient, error) {
	r.launching.Lock()
	defer r.launching.Unlock()
	r.mu.Lock()
	l, closed := r.launcher, r.closed
	r.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if l != nil {
		if l.alive() {
			return l, nil
		}
		r.log.Error("the sandbox launcher died; starting another")
		l.Close()
	}
	l, err := startLauncher(r.class, r.uidBase, r.uidCount, r.weaker)
	if err != nil {
		return nil, err
	}
	// A deadline that has passed belongs to the last launcher's sandboxes; the
	// next Extend reaches this one before anything may start in it.
	if until := r.holdUntil.Load(); until > bootNanos() {
		if err := l.hold(until); err != nil {
			l.Close()
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		l.Close()
		return nil, ErrClosed
	}
	r.launcher = l
	return l, nil
}

// RemoveStale kills and removes what a dead predecessor with the same
// CgroupParent left behind, and says how many sandboxes that was. Mounts, pid
// namespaces and their processes died with the predecessor's launcher; what
// remains are cgroups. Empty cgroups of other nodes that died on this machine
// and never came back go too. Call it before the first Start.
func (r *Runtime) RemoveStale() (int, error) {
	if r.cgroups == nil {
		return 0, nil
	}
	r.mu.Lock()
	late := len(r.living) > 0 || r.pool != nil
	r.mu.Unlock()
	if late {
		return 0, errors.New("remove stale sandboxes: our own are alive; it must come before the first start")
	}
	if n := r.cgroups.SweepOrphans(); n > 0 {
		r.log.Info("removed empty cgroups of nodes that are dead", "nodes", n)
	}
	return r.cgroups.Stale()
}

// Close kills every sandbox with EndShutdown, waits until they are gone and
// stops the launcher.
func (r *Runtime) Close() error {
	var err error
	r.closeOnce.Do(func() {
		r.mu.Lock()
		r.closed = true
		living := make([]*Sandbox, 0, len(r.living))
		for _, s := range r.living {
			living = append(living, s)
		}
		r.mu.Unlock()
		for _, s := range living {
			s.Kill(EndShutdown)
		}
		r.wg.Wait()
		close(r.stopHold)
		r.holding.Wait()
		if r.pool != nil { // nobody starts one any more
			r.pool.close()
		}
		r.launching.Lock() // a start in flight notices closed
		defer r.launching.Unlock()
		if r.launcher != nil {
			r.launcher.Close()
		}
		if r.cgroups != nil {
			err = r.cgroups.Close()
		}
	})
	return err
}

// reserve takes the ID for an attempt. One whose last attempt has ended is free
// in a moment.
func (r *Runtime) reserve(ctx context.Context, s *Sandbox) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for old := r.living[s.id]; old != nil && old.over(); old = r.living[s.id] {
		r.mu.Unlock()
		select {
		case <-old.gone:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	switch {
	case r.closed:
		return ErrClosed
	case r.cannot != nil:
		return r.cannot
	case r.living[s.id] != nil:
		return invalid("ID", "a sandbox %q is alive", s.id)
	}
	r.living[s.id] = s
	r.wg.Add(1)
	return nil
}

func (r *Runtime) release(s *Sandbox) {
	r.mu.Lock()
	delete(r.living, s.id)
	r.mu.Unlock()
	close(s.gone)
	r.wg.Done()
}

// warm returns the pool, if there is to be one. Its caller holds a reserved
// place, so Close is not past it.
func (r *Runtime) warm() *pool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pool == nil && r.warmSize > 0 {
		r.pool = r.newPool(r.warmLeast, r.warmSize)
	}
	return r.pool
}

// Start starts one sandbox and returns when the isolation is in force and the
// command was handed over. A command that cannot be executed is no error here
// but a Result with EndStartFailed. When ctx ends, the sandbox is killed, with
// EndTimeout after a deadline and EndCancelled otherwise.
//
// The error is *ErrInvalidSpec, *ErrCannotIsolate, ErrClosed, ctx's, or a
// failure of the machine.
func (r *Runtime) Start(ctx context.Context, spec Spec, out Streams) (*Sandbox, error) {
	spec, err := spec.normalize()
	if err != nil && r.off&ctlCheck == 0 {
		return nil, err
	}
	task, err := encodeTask(spec, same(out.Stdout, out.Stderr))
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := newSandbox(r, spec)
	if err := r.reserve(ctx, s); err != nil {
		return nil, err
	}
	defer func() {
		if spec.proof() {
			return
		}
		if p := r.warm(); p != nil {
			p.wake()
		}
	}()
	err = s.open(ctx, spec, out, task)
	if errors.Is(err, errLauncherDied) || err != nil && s.warm && retryCold(ctx, err) {
		// The launcher may have died while nobody looked; and whatever is wrong
		// with a warm cell (the kernel may have killed it for memory, say), a cold
		// one does not share it.
		s.undo()
		s.noWarm = true
		err = s.open(ctx, spec, out, task)
	}
	if err != nil {
		s.undo()
		r.release(s)
		close(s.done)
		return nil, fmt.Errorf("start sandbox %s: %w", spec.ID, err)
	}
	if s.warm {
		r.warmStarts.Add(1)
	} else if !spec.proof() {
		r.coldStarts.Add(1)
	}
	s.arm(ctx)
	return s, nil
}

// retryCold says whether a start that failed in a warm cell may do better in a
// cold one.
func retryCold(ctx context.Context, err error) bool {
	var bad *ErrInvalidSpec
	return ctx.Err() == nil && !errors.As(err, &bad)
}
