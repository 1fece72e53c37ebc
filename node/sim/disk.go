package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is a machine's disk with the raft state on it: what was written, and of
// that what was synced. It stands for package storage above a file system, and
// keeps that package's rules: a write returns when it is synced, after a write
// that failed all fail, and one that hangs is reported.
//
// A process that has died goes on for a moment, because goroutines cannot be
// stopped: its handle is a ghost, which reads what it knew and writes nowhere.
type disk struct {
	w    *World
	host string

	mu      sync.Mutex
	live    image           // guarded by mu
	synced  image           // guarded by mu
	pending []func(*image)  // guarded by mu: written, not synced, in order
	rng     *rand.Rand      // guarded by mu
	most    time.Duration   // guarded by mu: of one write
	lost    bool            // guarded by mu: of a dead process
	wiped   bool            // guarded by mu: what it had promised is gone
	latched error           // guarded by mu
	failing error           // guarded by mu: writes fail from now on
	hung    chan struct{}   // guarded by mu: writes wait until it is closed; nil = they do not
	owner   *proc           // guarded by mu
	ended   context.Context // guarded by mu: of the owner
}

type image struct {
	logs        map[uint64]*raft.Log
	first, last uint64 // 0 = none
	kv          map[string][]byte
	named       bool       // the identity lies here: whose store this is
	snaps       []snapshot // oldest first
	seq         uint64
}

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

func (i *image) clone() image {
	return image{logs: maps.Clone(i.logs), first: i.first, last: i.last, kv: maps.Clone(i.kv), named: i.named, snaps: slices.Clone(i.snaps), seq: i.seq}
}

func newDisk(w *World, host string, rng *rand.Rand) *disk {
	empty := image{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}}
	return &disk{w: w, host: host, rng: rng, live: empty, synced: empty.clone(), most: time.Millisecond}
}

// open makes the disk a process's.
func (d *disk) open(p *proc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owner, d.ended = p, p.ctx
}

// identify marks a new store as the machine's own, durably.
func (d *disk) identify() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live.named, d.synced.named = true, true
}

// identified says whether the store is still there: a machine that has lost
// what it promised the others must not start under its old identity.
func (d *disk) identified() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.live.named
}

// wipe loses everything.
func (d *disk) wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live = image{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}}
	d.synced, d.pending, d.wiped = d.live.clone(), nil, true
}

// crash takes the disk from its process and returns what is left of it. The
// page cache survives a killed process, not a power failure; of what was not
// synced the kernel may have written the beginning.
func (d *disk) crash(power bool) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
	left := &disk{w: d.w, host: d.host, rng: rand.New(rand.NewPCG(d.rng.Uint64(), 3)), most: d.most, wiped: d.wiped}
	if power {
		left.live = d.synced.clone()
		if n := len(d.pending); n > 0 {
			kept := d.rng.IntN(n + 1)
			for _, f := range d.pending[:kept] {
				f(&left.live)
			}
			d.w.count("power lost with writes not synced")
		}
	} else {
		left.live = d.live.clone()
	}
	left.synced = left.live.clone()
	return left
}

var (
	errPowerLost = errors.New("simulated disk: this process is dead")
	errDisk      = errors.New("simulated disk: input/output error")
	errFull      = errors.New("simulated disk: no space left on device")
)

// write puts a change on the disk and returns when it is durable.
func (d *disk) write(op string, change func(*image)) error {
	d.mu.Lock()
	owner, ended := d.owner, d.ended
	d.mu.Unlock()
	if err := d.w.net.awake(ended, d.host); err != nil {
		return errPowerLost
	}
	watch := newWatch(owner, op)
	defer watch.stop()
	if err := d.begin(change); err != nil {
		return err
	}
	d.mu.Lock()
	hung, took := d.hung, time.Duration(0)
	if d.most > 0 {
		took = time.Duration(d.rng.Int64N(int64(d.most)))
	}
	d.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-ended.Done():
			return errPowerLost
		}
	}
	if !sleep(ended, took) {
		return errPowerLost
	}
	return d.sync()
}

// begin writes into the page cache.
func (d *disk) begin(change func(*image)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.lost:
		return errPowerLost
	case d.latched != nil:
		return d.latched
	}
	change(&d.live)
	d.pending = append(d.pending, change)
	return nil
}

// sync makes everything durable, or finds that it cannot.
func (d *disk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.lost:
		return errPowerLost
	case d.failing != nil:
		d.latched = d.failing
		d.owner.failLater(fmt.Errorf("the log could not be written: %w", d.failing))
		return d.latched
	}
	for _, f := range d.pending {
		f(&d.synced)
	}
	d.pending = nil
	return nil
}

// hang makes writes wait until the returned function is called.
func (d *disk) hang() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hung != nil {
		return func() {}
	}
	ch := make(chan struct{})
	d.hung = ch
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.hung == ch {
			d.hung = nil
		}
		close(ch)
	})
}

// fail makes every write fail (nil: no more).
func (d *disk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = err
}

// slow sets how long a write takes at most.
func (d *disk) slow(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.most = most
}

func (d *disk) read(f func(*image) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return f(&d.live)
}

// watch is the watchdog around one write: the node hears of it again and again
// until it has heard enough (see node.diskStalls).
type watch struct {
	mu    sync.Mutex
	timer *time.Timer
	over  bool
}

func newWatch(p *proc, op string) *watch {
	limit := p.host.w.cfg.StallLimit
	began := time.Now()
	wd := &watch{}
	wd.mu.Lock()
	defer wd.mu.Unlock()
	wd.timer = time.AfterFunc(limit, func() {
		wd.mu.Lock()
		defer wd.mu.Unlock()
		if wd.over || p.ctx.Err() != nil {
			return
		}
		if !p.diskStalls(op, time.Since(began)) {
			wd.timer.Reset(limit / 8)
		}
	})
	return wd
}

func (wd *watch) stop() {
	wd.mu.Lock()
	defer wd.mu.Unlock()
	wd.over = true
	wd.timer.Stop()
}
