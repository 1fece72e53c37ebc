package sandbox

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	armed   bool        // open is over, pidfd may be used
	command *os.File    // pidfd of the command, once it runs; nil again at the end
	pending unix.Signal // sent when command comes; 0 is none
	why     EndReason   // of the first Kill or Stop
	ended   bool        // the init reported the command's end
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
	stdio, err := s.openStdio(spec.Stdin, out)
	defer closeFiles(stdio)
	if err != nil {
		return err
	}
	fds := make([]int, 3)
	for i, f := range stdio {
		fds[i] = int(f.Fd())
	}
	if err := sendFDs(s.conn, task, fds); err != nil {
		return fmt.Errorf("hand over the task: %w", err)
	}
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
	for _, st := range s.streams {
		st.r.Close()
	}
	if s.cell != nil {
		s.dispose()
	}
	s.cell, s.streams = nil, nil
}

// openStdio returns the command's ends of its three streams.
func (s *Sandbox) openStdio(stdin []byte, out Streams) ([]*os.File, error) {
	in, err := openStdin(stdin)
	if err != nil {
		return nil, err
	}
	files := []*os.File{in}
	user := s.rt.uidBase + s.uid
	for _, o := range []struct {
		name string
		w    io.Writer
	}{{"stdout", out.Stdout}, {"stderr", out.Stderr}} {
		if o.name == "stderr" && same(out.Stdout, out.Stderr) {
			dup, err := unix.FcntlInt(files[1].Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return files, fmt.Errorf("join stderr to stdout: %w", err)
			}
			files = append(files, os.NewFile(uintptr(dup), o.name))
			continue
		}
		st, f, err := openStream(o.name, o.w, user)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		s.streams = append(s.streams, st)
	}
	return files, nil
}
