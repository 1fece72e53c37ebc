package sandbox

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pool keeps cells ready beside the latency path. A cell is for one attempt
// only, never used again: a clean state by construction.
//
// It holds as many as were asked for within one demandWindow lately, between
// Config.Warm and Config.WarmMax: a burst as large as the last one finds them
// ready, and a machine that runs a task now and then pays for few.
//
// The filler's goroutine starts with the first task, so that RemoveStale and a
// node that runs no tasks have none of it, and ends with Close. While nothing
// is asked for it has no timer to wake it.
type pool struct {
	rt     *Runtime
	cells  chan *cell
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	dying  sync.WaitGroup // cells that are disposed of beside the latency path

	mu     sync.Mutex // leaf
	demand demand
	shape  Limits // of the next cells
}

const (
	// demandWindow is about the time in which the filler makes a few dozen cells
	// beside the tasks that took theirs.
	demandWindow = 100 * time.Millisecond
	// demandDecay is how often the demand is taken down where it fell. A cell
	// that waits costs memory, one that is removed cost a start for nothing.
	demandDecay = 2 * time.Second
	// refillPause keeps the filler out of the way of the task that just took a
	// cell: side by side on two cores they slow each other down by half.
	refillPause = 5 * time.Millisecond
	// fillerBackoff bounds how often a failure is tried again and told.
	fillerBackoff = time.Second
)

// demand follows how many cells are asked for at a time. Its times are given,
// so that it can be tested without a clock.
type demand struct {
	least, most int
	want        int
	begin       time.Time // of the window
	taken       int       // in the window
	peak        int       // of the windows since the last relax
}

// take counts one start and returns how many cells to hold.
func (d *demand) take(now time.Time) int {
	if now.Sub(d.begin) > demandWindow {
		d.begin, d.taken = now, 0
	}
	d.taken++
	d.peak = max(d.peak, d.taken)
	d.want = min(d.most, max(d.least, d.want, d.peak))
	return d.want
}

// relax goes half the way down to what was asked for since the last call, and
// says whether there is a way left.
func (d *demand) relax() bool {
	low := min(d.most, max(d.least, d.peak))
	d.want = low + max(0, d.want-low)/2
	d.peak = 0
	return d.want > d.least
}

// newPool starts a filler.
func (r *Runtime) newPool(least, most int) *pool {
	ctx, cancel := context.WithCancel(context.Background()) // outlives any request; ended by close
	p := &pool{rt: r, cells: make(chan *cell, most), kick: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
		demand: demand{least: least, most: most, want: least}, shape: defaultShape}
	go p.run(ctx)
	return p
}

func (p *pool) run(ctx context.Context) {
	defer close(p.done)
	calm := time.NewTimer(demandDecay)
	defer calm.Stop()
	running := true // calm is
	for made := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-p.kick:
		case <-calm.C:
			p.mu.Lock()
			running = p.demand.relax()
			p.mu.Unlock()
			if running {
				calm.Reset(demandDecay)
			}
		}
		if !running && p.wanted() > p.demand.least {
			running = true
			calm.Reset(demandDecay)
		}
		p.trim()
		made = p.fill(ctx, made)
	}
}

func (p *pool) wanted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.demand.want
}

// trim removes what is beyond the demand.
func (p *pool) trim() {
	for len(p.cells) > p.wanted() {
		select {
		case c := <-p.cells:
			c.dispose()
		default:
			return
		}
	}
}

// fill makes cells until there are enough. It returns how many were ever made.
func (p *pool) fill(ctx context.Context, made int) int {
	for {
		have, want := len(p.cells), p.wanted()
		if have >= want || ctx.Err() != nil {
			return made
		}
		if 2*have >= want { // no hurry: let the task that took one get going
			if !pause(ctx, refillPause) {
				return made
			}
		}
		made++
		// No ID has an underscore: the names cannot meet.
		c, err := p.rt.newCell(ctx, fmt.Sprintf("warm_%d", made), p.nextShape(), grants{})
		if err != nil {
			if ctx.Err() == nil {
				p.rt.log.Warn("no warm sandbox; tasks start cold", "error", err)
				pause(ctx, fillerBackoff)
			}
			return made // until the next start
		}
		p.cells <- c // has room: nobody else sends
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// defaultShape is what cells are made for before the first task came.
var defaultShape = func() Limits {
	l, err := Limits{}.normalize()
	if err != nil {
		panic(err) // cannot happen: the defaults are valid
	}
	return l
}()

// leastShape is the least memory that a cell is made with beforehand: a limit so
// small that its init fails is to fail its task, and not the pool.
const leastShape = 16 << 20

// shapeOf returns the limits to make cells with for more tasks like this one.
// What the node itself watches over, and what warm cells do not have, is not
// among them.
func shapeOf(l Limits) Limits {
	if l.MemoryBytes < leastShape {
		return defaultShape
	}
	return Limits{MemoryBytes: l.MemoryBytes, CPUMillis: l.CPUMillis, PIDs: l.PIDs, TmpBytes: l.TmpBytes}
}

func (p *pool) nextShape() Limits {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shape
}

// wake has the filler look whether cells are missing.
func (p *pool) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// suits says whether a warm cell can become what the spec asks for. The Landlock
// rules are in force already: a writable folder must lie where they allow
// changes anyway. A rule holds for what is mounted below its folder, too.
func suits(spec Spec) bool {
	allowed := func(target string) bool { return within(target, "/tmp") || within(target, "/dev/shm") }
	if spec.Limits.anyIO() {
		return false // its group may lack the controller
	}
	if spec.Network == NetworkNone {
		return false // lo is up, and cannot be taken down from outside without the rules
	}
	for _, m := range spec.Mounts {
		if m.Writable && !allowed(m.Target) {
			return false
		}
	}
	return spec.Scratch == nil || allowed(spec.Scratch.Target)
}

// take returns a warm cell that suits the spec, or nil. Its caller wakes the
// filler when the task is on its way.
func (p *pool) take(spec Spec) *cell {
	if !suits(spec) {
		return nil
	}
	p.mu.Lock()
	p.demand.take(time.Now())
	p.shape = shapeOf(spec.Limits) // tasks come in kinds: the next is most often like the last
	p.mu.Unlock()
	for {
		select {
		case c := <-p.cells:
			if c.alive() {
				return c
			}
			p.dying.Go(c.dispose) // the launcher died
		default:
			return nil
		}
	}
}

// Stats counts the starts of tasks, and the sandboxes that are ready.
type Stats struct{ Warm, Cold, Ready uint64 }

// Stats says how the pool does.
func (r *Runtime) Stats() Stats {
	r.mu.Lock()
	p := r.pool
	r.mu.Unlock()
	s := Stats{Warm: r.warmStarts.Load(), Cold: r.coldStarts.Load()}
	if p != nil {
		s.Ready = uint64(len(p.cells))
	}
	return s
}

// close ends the filler and removes the cells.
func (p *pool) close() {
	p.cancel()
	<-p.done
	close(p.cells)
	for c := range p.cells {
		c.dispose()
	}
	p.dying.Wait()
}
