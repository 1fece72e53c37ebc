package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"holdfast/chaos/fault/wire"
)

// watch tells of changes in a folder as they happen, so that a fault can come
// at that moment.
type watch struct{ f *os.File }

func newWatch(dir string, mask uint32) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	w := &watch{os.NewFile(uintptr(fd), "inotify")}
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", dir, err), w.f.Close())
	}
	return w, nil
}

// next waits for a change of a file with one of these names, or any if there
// are none.
func (w *watch) next(ctx context.Context, names ...string) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(b)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err != nil {
			return "", err
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&b[at]))
			at += unix.SizeofInotifyEvent
			name := string(bytes.TrimRight(b[at:at+int(e.Len)], "\x00"))
			at += int(e.Len)
			if len(names) == 0 || slices.Contains(names, name) {
				return name, nil
			}
		}
	}
}

func (w *watch) close() error { return w.f.Close() }

// moments are where a node's work can be seen from outside.
var moments = map[string]struct {
	folder string
	names  []string // of files; none is any
	mask   uint32
	what   string
}{
	"append":   {".", []string{"log.journal", "log.db"}, unix.IN_MODIFY, "a write of its log"},
	"apply":    {".", []string{"log.tail"}, unix.IN_MODIFY, "the mark after an append, before the entry is applied"},
	"snapshot": {"snapshots", nil, unix.IN_CREATE | unix.IN_MOVED_TO, "the beginning of a snapshot"},
	"report":   {"outputs", nil, unix.IN_CLOSE_WRITE, "the end of a task's output, before its report"},
}

// killDuring is kill -9 at a moment of the node's own work.
func killDuring(s *Strike) actions {
	n := s.Targets[0]
	m := moments[s.Step.With["moment"]]
	var seen string
	a := kill(s)
	a.inject = func(ctx context.Context) error {
		w, err := newWatch(filepath.Join(n.Dir, m.folder), m.mask)
		if err != nil {
			return err
		}
		defer w.close()
		if s.Step.With["moment"] == "snapshot" {
			stop := s.fillLog(ctx)
			defer func() { _ = stop() }() // its submissions fail when the node dies
		}
		if seen, err = w.next(ctx, m.names...); err != nil {
			return fmt.Errorf("wait for %s: %w", m.what, err)
		}
		return n.Kill()
	}
	bit := a.bit
	a.bit = func(ctx context.Context) (string, error) {
		text, err := bit(ctx)
		return fmt.Sprintf("%s at %s (%s)", text, m.what, seen), err
	}
	return a
}

// reportFault strikes the moment at which the target reports the end of a task.
//
//	report-cut:   nothing passes either way for a while
//	report-twice: what the leader answers is lost for a while, so that the
//	              report comes again
//	report-late:  what the target sends is lost until the heal
func reportFault(s *Strike) actions {
	n := s.Targets[0]
	in := names(s.Targets)
	out := func(from, to string) bool { return isNode(to) && in[from] && !in[to] }
	back := func(from, to string) bool { return isNode(from) && in[to] && !in[from] }
	match := out
	length := 800 * time.Millisecond
	switch s.Step.Fault {
	case "report-cut":
		match = func(from, to string) bool { return out(from, to) || back(from, to) }
	case "report-twice":
		match = back
	case "report-late":
		length = s.Step.For.D()
	}
	var until atomic.Int64 // Unix nanoseconds
	var reports atomic.Int64
	a := ruled(s, wire.Rule{Drop: true, Match: match, Gate: func(wire.Packet) bool { return time.Now().UnixNano() < until.Load() }})
	begin, end, bit := a.inject, a.heal, a.bit
	var stop func() error
	a.inject = func(ctx context.Context) error {
		if err := begin(ctx); err != nil {
			return err
		}
		m := moments["report"]
		w, err := newWatch(filepath.Join(n.Dir, m.folder), m.mask)
		if err != nil {
			return err
		}
		stop = loop(ctx, func(ctx context.Context) error {
			if _, err := w.next(ctx, m.names...); err != nil {
				return errors.Join(err, w.close())
			}
			reports.Add(1)
			until.Store(time.Now().Add(length).UnixNano())
			return pass(ctx, 2*length) // and then it may get through
		})
		return nil
	}
	a.bit = func(ctx context.Context) (string, error) {
		text, err := bit(ctx)
		return fmt.Sprintf("at the end of %d tasks: %s", reports.Load(), text), err
	}
	a.heal = func(ctx context.Context) error {
		var err error
		if stop != nil {
			err = stop()
		}
		return errors.Join(err, end(ctx))
	}
	return a
}
