package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	copySize = 32 << 10 // bytes per read
	// drainTime bounds how long Wait waits for the writers after the last
	// process of the attempt is gone: what is left is one pipe full per stream.
	drainTime = 5 * time.Second
)

var errLate = fmt.Errorf("%s after the end it was not read to its end, or somebody outside holds it open", drainTime/2)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// stream carries one output from the command's pipe to a writer. Whoever has put
// a value into busy owns the pipe's content, the writer and err.
type stream struct {
	name string
	r    *os.File
	w    io.Writer
	busy chan struct{} // holds one
	over chan struct{} // closed when it is nobody's any more
	err  error         // of the writer
}

// openStreams makes the command's streams and returns its ends. An output is a
// pipe even when nobody listens: the command shall hold no descriptor on a mount
// of the host, not even of its /dev/null.
//
// We keep those ends too: their last close would wake us when the command ends,
// and have us compete for the processor with the init that is to say how.
func (c *cell) openStreams() (theirs []*os.File, err error) {
	if c.stdin, err = newStdin(); err != nil {
		return nil, err
	}
	for i, name := range outputNames {
		c.outputs[i], c.inputs[i], err = openOutput(name, c.rt.uidBase+c.uid)
		if err != nil {
			return nil, err
		}
	}
	return []*os.File{c.stdin, c.inputs[0], c.inputs[1]}, nil
}

var outputNames = [2]string{"stdout", "stderr"}

func openOutput(name string, uid int) (r, w *os.File, err error) {
	// Not os.Pipe: it would make the command's end non-blocking too.
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe for %s: %w", name, err)
	}
	w = os.NewFile(uintptr(p[1]), name)
	err = unix.SetNonblock(p[0], true)
	if err == nil {
		// Programs open /dev/stderr: the pipe must belong to them.
		err = unix.Fchown(p[1], uid, uid)
	}
	if err != nil {
		unix.Close(p[0])
		w.Close()
		return nil, nil, fmt.Errorf("give %s to the task's user: %w", name, err)
	}
	return os.NewFile(uintptr(p[0]), name), w, nil
}

// carry returns the streams from the cell's outputs to the writers.
func (c *cell) carry(out Streams) (streams []*stream) {
	writers := [2]io.Writer{out.Stdout, out.Stderr}
	for i, w := range writers {
		if i == 1 && same(out.Stdout, out.Stderr) {
			closeFiles([]*os.File{c.outputs[1], c.inputs[1]})
			break
		}
		if w == nil {
			w = io.Discard
		}
		streams = append(streams, &stream{name: outputNames[i], r: c.outputs[i], w: w, busy: make(chan struct{}, 1), over: make(chan struct{})})
	}
	return streams
}

// same says whether both outputs go to one writer: then one pipe keeps their
// order, and one goroutine writes.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }() // comparing uncomparable types panics
	return a != nil && a == b
}

// run copies until finish has been there and the pipe's end is closed. After the writer failed it goes on
// reading, so that the command does not hang on a full pipe.
func (s *stream) run() {
	rc, err := s.r.SyscallConn()
	for err == nil {
		var buf *[]byte
		n := 0
		// What is taken from the pipe is in someone's hands at any time.
		err = rc.Read(func(fd uintptr) bool {
			select {
			case s.busy <- struct{}{}:
			case <-s.over:
				return false // the close is on its way
			}
			buf = copyBuffers.Get().(*[]byte)
			if n = readSome(fd, *buf); n > 0 {
				return true
			}
			copyBuffers.Put(buf)
			<-s.busy
			return false
		})
		if err == nil {
			s.write((*buf)[:n])
			copyBuffers.Put(buf)
			<-s.busy
		}
	}
}

// readSome returns how much it read without waiting.
func readSome(fd uintptr, buf []byte) int {
	for {
		n, err := unix.Read(int(fd), buf)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0)
		}
	}
}

// write passes on what was read, unless the writer has failed.
func (s *stream) write(b []byte) {
	if s.err != nil {
		return
	}
	if n, err := s.w.Write(b); err != nil {
		s.err = err
	} else if n < len(b) {
		s.err = io.ErrShortWrite
	}
}

// drain takes what is left in the pipe when its writers are gone. Where the
// command passed its end to a process outside, through a socket in a granted
// folder, it may never run dry.
func (s *stream) drain() {
	rc, err := s.r.SyscallConn()
	if err != nil {
		return
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for begun := time.Now(); time.Since(begun) < drainTime/2; {
		n := 0
		// Not written in there: a writer that hangs would hold up the close.
		if err := rc.Control(func(fd uintptr) { n = readSome(fd, *buf) }); err != nil || n == 0 {
			return
		}
		s.write((*buf)[:n])
	}
	if s.err == nil {
		s.err = errLate
	}
}

// finish takes the rest of the streams after the attempt is over. Their
// goroutines, which would have to be woken for it, are not asked.
func finish(streams []*stream) (message string) {
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	late := false
	for _, s := range streams {
		cut := s.finish(limit.C, &late)
		if cut != "" {
			message = join(message, fmt.Sprintf("%s was cut off: %s", s.name, cut))
		}
	}
	return message
}

func (s *stream) finish(limit <-chan time.Time, late *bool) (cut string) {
	defer close(s.over)
	mine := false // and for ever: nobody else reads any more
	select {
	case s.busy <- struct{}{}:
		mine = true
	default:
		if *late {
			break
		}
		select {
		case s.busy <- struct{}{}:
			mine = true
		case <-limit:
			*late = true
		}
	}
	if !mine {
		return fmt.Sprintf("its reader took nothing for %s", drainTime)
	}
	if s.drain(); s.err != nil {
		return s.err.Error()
	}
	return ""
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// newStdin makes a file in memory for the input: no goroutine has to feed it,
// and it ends where it ends.
func newStdin() (*os.File, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("stdin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make stdin: %w", err)
	}
	return os.NewFile(uintptr(fd), "stdin"), nil
}

// fillStdin writes the input, past the position that the command shares, and
// seals it.
func (c *cell) fillStdin(input []byte) error {
	var err error
	if len(input) > 0 {
		_, err = c.stdin.WriteAt(input, 0)
	}
	if err == nil {
		_, err = unix.FcntlInt(c.stdin.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		return fmt.Errorf("fill stdin: %w", err)
	}
	return nil
}
