package sandbox

import (
	"context"
	"fmt"
	"time"
)

// pool keeps cells ready beside the latency path. A cell is for one attempt
// only, never used again: a clean state by construction.
//
// The filler's goroutine starts with the first Start, so that RemoveStale and a
// node that runs no tasks have none of it, and ends with Close.
type pool struct {
	cells  chan *cell
	kick   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// newPool starts a filler for size cells.
func (r *Runtime) newPool(size int) *pool {
	ctx, cancel := context.WithCancel(context.Background()) // outlives any request; ended by close
	p := &pool{cells: make(chan *cell, size), kick: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for n := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-p.kick:
			}
			for len(p.cells) < size && ctx.Err() == nil {
				if 2*len(p.cells) >= size { // no hurry: let the task that took one get going
					select {
					case <-ctx.Done():
						return
					case <-time.After(refillPause):
					}
				}
				n++
				// No ID has an underscore: the names cannot meet.
				c, err := r.newCell(ctx, fmt.Sprintf("warm_%d", n), warmLimits, false, nil)
				if err != nil {
					if ctx.Err() == nil {
						r.log.Warn("no warm sandbox; tasks start cold", "error", err)
					}
					break // until the next start
				}
				p.cells <- c // has room: nobody else sends
			}
		}
	}()
	return p
}

// refillPause keeps the filler out of the way of the task that just took a cell:
// side by side on two cores they slow each other down by half.
const refillPause = 5 * time.Millisecond

// warmLimits is what a warm cell is made for. What differs is changed when it
// gets its task.
var warmLimits = Limits{TmpBytes: DefaultMemoryBytes / 2}

// wake has the filler look whether cells are missing.
func (p *pool) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// take returns a warm cell that suits the spec, or nil.
func (p *pool) take(spec Spec) *cell {
	defer p.wake()
	for _, m := range spec.Mounts {
		if m.Writable {
			return nil // its folder must be in the Landlock rules, which are in force
		}
	}
	for {
		select {
		case c := <-p.cells:
			if c.alive() {
				return c
			}
			c.dispose() // the launcher died
		default:
			return nil
		}
	}
}

// close ends the filler and removes the cells.
func (p *pool) close() {
	p.cancel()
	<-p.done
	close(p.cells)
	for c := range p.cells {
		c.dispose()
	}
}
