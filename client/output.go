package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// OutputOptions choose a part of a task's output.
type OutputOptions struct {
	Stream  string // "stdout" (default) or "stderr"
	Offset  int64  // bytes to skip
	Attempt int    // 0: the latest
	Follow  bool   // wait for more until the attempt ends
}

// attemptHeader says which attempt's output an answer carries.
const attemptHeader = "Holdfast-Attempt"

// Output returns a task's output. A read that breaks off goes on at another
// node from the byte where it stopped. Close it.
func (c *Client) Output(ctx context.Context, id string, o OutputOptions) (io.ReadCloser, error) {
	if o.Stream == "" {
		o.Stream = "stdout"
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &outputReader{c: c, ctx: ctx, cancel: cancel, id: id, opts: o}
	if err := r.open(); err != nil {
		cancel()
		return nil, err
	}
	return r, nil
}

// outputReader resumes by offset. Read has one caller at a time; Close may
// come from another goroutine and ends a Read under way.
type outputReader struct {
	c      *Client
	ctx    context.Context
	cancel context.CancelFunc
	id     string
	opts   OutputOptions

	mu   sync.Mutex
	body io.ReadCloser // nil between two connections
	addr string
	err  error // sticky
}

func (r *outputReader) open() error {
	return r.c.try(r.ctx, "read the "+r.opts.Stream+" of task "+r.id, func(ctx context.Context, addr string) error {
		q := map[string][]string{
			"stream": {r.opts.Stream},
			"offset": {strconv.FormatInt(r.opts.Offset, 10)},
		}
		if r.opts.Follow {
			q["follow"] = []string{"true"}
		}
		if r.opts.Attempt > 0 {
			q["attempt"] = []string{strconv.Itoa(r.opts.Attempt)}
		}
		resp, err := r.c.open(ctx, addr, request{method: http.MethodGet, path: taskPath(r.id, "/output"), query: q})
		if err != nil {
			return err
		}
		// An offset means something within one attempt only.
		if n, err := strconv.Atoi(resp.Header.Get(attemptHeader)); err == nil && n > 0 {
			r.opts.Attempt = n
		}
		r.mu.Lock()
		r.body, r.addr = resp.Body, addr
		r.mu.Unlock()
		return nil
	})
}

// Read gives the next bytes, over as many connections as it takes. It gives
// up when a whole round of attempts brought no byte.
func (r *outputReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for idle := 0; ; {
		if r.err != nil {
			return 0, r.err
		}
		if r.body == nil {
			if r.err = r.open(); r.err != nil {
				return 0, r.err
			}
		}
		n, err := r.body.Read(p)
		r.opts.Offset += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			r.err = io.EOF
		case err != nil:
			r.drop()
			r.c.ends.badAddr(r.addr)
			if idle++; r.ctx.Err() != nil || idle >= r.c.cfg.Retry.Attempts {
				r.err = &CallError{
					Op: "read the " + r.opts.Stream + " of task " + r.id, Attempts: idle,
					Tried: []Try{{r.addr, err}}, Err: err,
				}
			}
		}
		if n > 0 {
			return n, nil
		}
		if err == nil {
			return 0, nil
		}
	}
}

func (r *outputReader) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.body.Close()
	r.body = nil
}

// Close ends the transfer.
func (r *outputReader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body != nil {
		return r.body.Close()
	}
	return nil
}
