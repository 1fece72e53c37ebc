package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/client"
	"holdfast/transport/pki"
)

// releasePatience bounds the end of a node that failed: a disk that hangs
// must not keep a dead node's process alive.
const releasePatience = 5 * time.Second

// Ready is what a node that serves says of itself.
type Ready struct {
	NodeID string
	Addr   string
	Socket string
	CAPin  string
}

// Run runs the node in cfg.Data until ctx ends, then drains it. It calls
// ready once the node is a registered member that knows its leader. A node that leaves its cluster while it
// runs ends without an error.
func Run(ctx context.Context, cfg Config, ready func(Ready)) error {
	logger, closer, err := NewLogger(cfg.Log)
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }()
	if err := relaxTimers(); err != nil {
		logger.Debug("the kernel's default timer slack stays: the node uses more processor time", "error", err)
	}
	n, err := Start(ctx, cfg, logger)
	if err != nil {
		return err
	}
	if ready != nil && n.awaitLeader(ctx) {
		ready(Ready{NodeID: n.id, Addr: n.addr, Socket: n.Socket(), CAPin: pki.Pin(n.creds.ca)})
	}
	select {
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(cfg.Drain)+20*time.Second)
		defer cancel()
		return n.Shutdown(grace)
	case <-n.Failed():
	}
	cause := n.Cause()
	ended := make(chan error, 1)
	go func() { ended <- n.Shutdown(context.WithoutCancel(ctx)) }()
	select {
	case err := <-ended:
		if errors.Is(cause, ErrRemoved) && n.registered.Load() {
			return nil
		}
		return errors.Join(cause, err)
	case <-time.After(releasePatience):
		return fmt.Errorf("%w (and the node did not let go of everything within %v)", cause, releasePatience)
	}
}

// awaitLeader returns once this node could do a client's work. False means
// that it is to stop instead.
func (n *Node) awaitLeader(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(backend{n}.NotReady()) > 0 || !n.registered.Load() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		case <-n.Failed():
			return false
		}
	}
	return true
}

// Leave drains the node that runs in cfg.Data and takes it out of its cluster
// for good. Its process ends by itself.
func Leave(ctx context.Context, cfg Config) error {
	socket := folder(cfg.Data).socket()
	c, err := client.New(client.Config{UnixSocket: socket})
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Cluster(ctx)
	if err != nil {
		return fmt.Errorf("ask the node at %s: %w (a node that does not run is removed from another one: holdfast nodes remove)", socket, err)
	}
	if len(status.Members) == 1 {
		return errors.New("this is the only node of its cluster: stop it and remove its data folder instead")
	}
	if _, err := c.Drain(ctx, status.AnsweredBy, true); err != nil {
		return fmt.Errorf("drain node %s: %w", status.AnsweredBy, err)
	}
	if err := waitIdle(ctx, c, status.AnsweredBy, time.Duration(cfg.Drain)); err != nil {
		return err
	}
	if err := c.RemoveNode(ctx, status.AnsweredBy); err != nil {
		return fmt.Errorf("remove node %s: %w", status.AnsweredBy, err)
	}
	return folder(cfg.Data).waitReleased(ctx)
}

// waitReleased waits until no process holds the data folder: the lock is the
// last thing that a node lets go of.
func (f folder) waitReleased(ctx context.Context) error {
	lock, err := os.Open(f.path("lock"))
	if err != nil {
		return fmt.Errorf("see whether the node has ended: %w", err)
	}
	defer func() { _ = lock.Close() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil // closing the file gives it back
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("see whether the node has ended: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the node has left, but its process has not ended yet: %w", ctx.Err())
		}
	}
}

// waitIdle waits until a node runs nothing, at most for grace.
func waitIdle(ctx context.Context, c *client.Client, id string, grace time.Duration) error {
	end := time.NewTimer(grace)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		node, err := c.Node(ctx, id)
		if err != nil {
			return fmt.Errorf("ask for node %s: %w", id, err)
		}
		if node.Running == 0 {
			return nil
		}
		select {
		case <-end.C:
			return nil // what still runs is lost here, and tried elsewhere
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Dev runs a one-node cluster in cfg.Data and makes it first if there is none.
// link, if not empty, is a path at which others find the node's socket.
func Dev(ctx context.Context, cfg Config, link string, ready func(Ready)) error {
	if !folder(cfg.Data).initialised() {
		if _, err := Init(ctx, cfg); err != nil {
			return err
		}
	}
	if link == "" {
		return Run(ctx, cfg, ready)
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return fmt.Errorf("make a place for the socket: %w", err)
	}
	return Run(ctx, cfg, func(r Ready) {
		defer ready(r)
		if r.Socket == link {
			return
		}
		// Of a dev node that was killed; a running one is replaced as well,
		// because the newest is what its user sees on the screen.
		_ = os.Remove(link)
		if err := os.Symlink(r.Socket, link); err == nil {
			context.AfterFunc(ctx, func() { _ = os.Remove(link) })
		}
	})
}
