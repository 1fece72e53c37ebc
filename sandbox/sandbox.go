package sandbox

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Sandbox is one living or ended attempt. Its methods are safe for concurrent
// use. One goroutine (watch) owns the fields of the second group from arm on.
type Sandbox struct {
	rt      *Runtime
	id      string
	limits  Limits
	started time.Time
	done    chan struct{} // closed when result is final
	gone    chan struct{} // closed when nothing at all is left, and the ID is free

	*cell
	warm       bool // the cell came from the pool
	noWarm     bool // one from the pool failed
	streams    []*stream
	stopTimers []func() bool
	result     Result

	mu      sync.Mutex
	armed   bool      // open is over, the cell's descriptors may be used
	why     EndReason // of the first Kill or Stop
	ended   bool      // the init reported the command's end
	stopped *time.Timer
}

func newSandbox(r *Runtime, spec Spec) *Sandbox {
	return &Sandbox{rt: r, id: spec.ID, limits: spec.Limits, started: time.Now(), done: make(chan struct{}), gone: make(chan struct{})}
}

// open gets a cell, warm if there is one that suits, and hands the task over.
func (s *Sandbox) open(ctx context.Context, spec Spec, out Streams, task []byte) error {
	if err := s.openCell(ctx, spec); err != nil {
		return err
	}
	if err := s.fillStdin(spec.Stdin); err != nil {
		return err
	}
	if err := sendFDs(s.conn, task, nil); err != nil {
		return fmt.Errorf("hand over the task: %w", err)
	}
	s.streams = s.carry(out)
	return nil
}

func (s *Sandbox) openCell(ctx context.Context, spec Spec) error {
	// The proof of a node at rest leaves the pool alone.
	if !s.noWarm && !spec.proof() {
		if p := s.rt.warm(); p != nil {
			s.cell = p.take(spec)
		}
	}
	if s.warm = s.cell != nil; !s.warm {
		var err error
		s.cell, err = s.rt.newCell(ctx, spec.ID, spec.Limits, spec.grants())
		return err
	}
	return s.fit(ctx, spec.Limits, spec.grants())
}

// undo takes back a failed open; another may follow.
func (s *Sandbox) undo() {
	if s.cell != nil {
		s.dispose()
	}
	s.cell, s.streams = nil, nil
}
