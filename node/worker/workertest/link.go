package workertest

import (
	"context"
	"net"
	"sync"
	"time"
)

// link is one end of a stream that can fall silent: it swallows what is
// written, as a network that drops every packet.
type link struct {
	net.Conn
	mu     sync.Mutex
	silent chan struct{}
}

func newLink(conn net.Conn) *link { return &link{Conn: conn, silent: make(chan struct{})} }

func (l *link) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.silent:
	default:
		close(l.silent)
	}
	_ = l.Conn.SetWriteDeadline(time.Unix(1, 0)) // ends a write in progress
}

func (l *link) Write(p []byte) (int, error) {
	select {
	case <-l.silent:
		return len(p), nil
	default:
	}
	n, err := l.Conn.Write(p)
	select {
	case <-l.silent:
		return len(p), nil
	default:
		return n, err
	}
}

// Close of a silent end is not seen by the other.
func (l *link) Close() error {
	select {
	case <-l.silent:
		return l.Conn.SetDeadline(time.Unix(1, 0))
	default:
		return l.Conn.Close()
	}
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
