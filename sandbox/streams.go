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

// stream carries one output from the command's pipe to a writer. Its goroutine
// owns the read end and the writer until done is closed.
type stream struct {
	name string
	r    *os.File
	w    io.Writer
	done chan struct{}
	err  error // of the writer; read after done
}

// openStreams makes the command's streams and returns its ends. An output is a
// pipe even when nobody listens: the command shall hold no descriptor on a mount
// of the host, not even of its /dev/null.
func (c *cell) openStreams() (theirs []*os.File, err error) {
	if c.stdin, err = newStdin(); err != nil {
		return nil, err
	}
	in, err := unix.FcntlInt(c.stdin.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("share stdin with the command: %w", err)
	}
	theirs = append(theirs, os.NewFile(uintptr(in), "stdin"))
	for i, name := range outputNames {
		r, w, err := openOutput(name, c.rt.uidBase+c.uid)
		if err != nil {
			return theirs, err
		}
		c.outputs[i] = r
		theirs = append(theirs, w)
	}
	return theirs, nil
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
			c.outputs[1].Close()
			break
		}
		if w == nil {
			w = io.Discard
		}
		streams = append(streams, &stream{name: outputNames[i], r: c.outputs[i], w: w, done: make(chan struct{})})
	}
	return streams
}

// same says whether both outputs go to one writer: then one pipe keeps their
// order, and one goroutine writes.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }() // comparing uncomparable types panics
	return a != nil && a == b
}

// run copies until the end. After the writer failed it goes on reading, so that
// the command does not hang on a full pipe.
func (s *stream) run() {
	defer close(s.done)
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := s.r.Read(*buf)
		if n > 0 && s.err == nil {
			if m, werr := s.w.Write((*buf)[:n]); werr != nil {
				s.err = werr
			} else if m < n {
				s.err = io.ErrShortWrite
			}
		}
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = errLate
			}
			if !errors.Is(err, io.EOF) && s.err == nil {
				s.err = err
			}
			return
		}
	}
}

// finish waits for the copies after the attempt is over. A pipe can stay open
// where the command passed it to a process outside, through a socket in a
// granted folder: what does not come in time is given up.
func finish(streams []*stream) (message string) {
	limit := time.NewTimer(drainTime)
	defer limit.Stop()
	late := false
	for _, s := range streams {
		_ = s.r.SetReadDeadline(time.Now().Add(drainTime / 2))
	}
	for _, s := range streams {
		if !late {
			select {
			case <-s.done:
			case <-limit.C:
				late = true
			}
		}
		select {
		case <-s.done:
			if s.err != nil {
				message = join(message, fmt.Sprintf("%s was cut off: %v", s.name, s.err))
			}
		default:
			message = join(message, fmt.Sprintf("%s was cut off: its reader took nothing for %s", s.name, drainTime))
		}
		s.r.Close()
	}
	return message
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
