package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// SnapshotSave writes a portable snapshot of the cluster's tasks, API tokens
// and settings to w and returns its size. The bytes hold everything that the
// tasks' specs hold: seal them before they reach a disk, see package sealed.
//
// It is tried again only until the first byte has been written. An error means
// that w holds nothing usable.
func (c *Client) SnapshotSave(ctx context.Context, w io.Writer) (int64, error) {
	var n int64
	err := c.try(ctx, "save a snapshot", func(ctx context.Context, addr string) error {
		resp, err := c.open(ctx, addr, request{method: http.MethodGet, path: "/v1/snapshot"})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		n, err = io.Copy(w, resp.Body)
		if err != nil && n > 0 {
			err = &permanentError{fmt.Errorf("broke off after %d bytes: %w", n, err)}
		}
		return err
	})
	return n, err
}

// SnapshotRestore replaces the cluster's tasks, API tokens and settings by a
// portable snapshot. The cluster keeps its own identity and nodes. r is read
// from its start, again for every attempt.
func (c *Client) SnapshotRestore(ctx context.Context, r io.ReadSeeker, opts ...CallOption) error {
	h, err := writeHeader(opts)
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	h.Set("Content-Type", "application/octet-stream")
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("restore a snapshot: find its size: %w", err)
	}
	if size == 0 {
		return errors.New("restore a snapshot: it is empty")
	}
	err = c.try(ctx, "restore a snapshot", func(ctx context.Context, addr string) error {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return &permanentError{err}
		}
		body := &lentReader{r: r}
		defer body.takeBack()
		resp, err := c.open(ctx, addr, request{method: http.MethodPost, path: "/v1/snapshot", header: h, body: body, length: size})
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err == nil {
		c.index.Store(0) // the restored log may be shorter
	}
	return err
}

// lentReader gives r to one attempt. The transport may go on reading a
// request's body after the answer came; after takeBack it gets an error
// instead, so that the next attempt has r to itself. It hides Close as well:
// the transport must not close the caller's file.
type lentReader struct {
	mu sync.Mutex
	r  io.Reader // nil after takeBack
}

func (l *lentReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errors.New("the attempt is over")
	}
	return l.r.Read(p)
}

func (l *lentReader) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r = nil
}
