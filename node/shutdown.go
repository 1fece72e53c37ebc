package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the parts of a shutdown that wait for others.
const (
	transferPatience = 3 * time.Second
	apiPatience      = 5 * time.Second
	requestGrace     = 200 * time.Millisecond // for what waits for a commit at most
	leavePatience    = time.Second
)

// Shutdown ends the node politely: no new tasks, leadership moves first,
// running tasks get their grace (the configuration's drain, or less if ctx
// ends), then everything closes. It returns when nothing of the node is left.
// After a failure it skips what needs the cluster.
func (n *Node) Shutdown(ctx context.Context) error {
	n.stopOnce.Do(func() {
		defer close(n.stopped)
		healthy := n.ctx.Err() == nil
		n.draining.Store(true)
		if healthy {
			n.drain(ctx)
		}
		n.cancel(errStopped)
		n.stopErr = n.release()
	})
	<-n.stopped
	return n.stopErr
}

var errStopped = errors.New("the node was told to stop")

// drain moves this node's duties to the others.
func (n *Node) drain(ctx context.Context) {
	n.log.Info("draining", "running", n.runningTasks(), "grace", time.Duration(n.cfg.Drain))
	// Registered anew, without capacity: nothing is assigned here any more,
	// and a drain by an operator is not touched.
	if n.isolates.Load() {
		short, cancel := context.WithTimeout(ctx, transferPatience)
		if err := n.register(short); err != nil {
			n.log.Warn("the cluster could not be told that this node drains", "error", err)
		}
		cancel()
	}
	n.handOver(ctx)
	if !n.isolates.Load() {
		return
	}
	// The worker's own bound is the grace; the rest is for the reports.
	bounded, cancel := context.WithTimeout(ctx, time.Duration(n.cfg.Drain)+10*time.Second)
	defer cancel()
	if err := n.worker.Drain(bounded, time.Duration(n.cfg.Drain)); err != nil {
		n.log.Warn("not every task's end could be reported", "error", err)
	}
}

// handOver gives up leadership, if there is somebody to take it.
func (n *Node) handOver(ctx context.Context) {
	if !n.group.Leader().Self {
		return
	}
	for _, m := range n.group.Members() {
		if m.ID == n.id || !m.Voter || !m.Healthy {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, transferPatience)
		defer cancel()
		if err := n.group.TransferLeadership(ctx); err != nil {
			n.log.Warn("leadership not handed over; the others elect without this node", "error", err)
		}
		return
	}
}

func (n *Node) runningTasks() int {
	if n.worker == nil {
		return 0
	}
	return n.worker.Running()
}

// release closes everything that was opened, in the order in which the parts
// depend on each other. It also cleans up after a start that failed half way.
func (n *Node) release() error {
	var errs []error
	if n.stopWorker != nil {
		n.stopWorker()
		<-n.workerDone
	}
	if !n.stopAPI() {
		n.log.Warn("requests were cut off that did not end by themselves", "after", apiPatience)
	}
	n.serving.Wait()
	if n.tcp != nil && len(n.api) == 0 {
		errs = append(errs, n.tcp.Close())
	}
	if m := n.members.Load(); m != nil {
		ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
		errs = append(errs, m.Close(ctx))
		cancel()
	}
	if n.forward != nil {
		n.forward.Close()
	}
	if n.group != nil {
		errs = append(errs, n.group.Shutdown())
	}
	if n.raft != nil {
		errs = append(errs, n.raft.Close())
	}
	if n.mux != nil {
		errs = append(errs, n.mux.Close())
	}
	n.work.Wait()
	if n.sandbox != nil {
		errs = append(errs, n.sandbox.Close())
	}
	if n.outputs != nil {
		errs = append(errs, n.outputs.Close())
	}
	if n.audit != nil {
		ctx, cancel := context.WithTimeout(context.Background(), apiPatience)
		errs = append(errs, n.audit.Close(ctx))
		cancel()
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

// stopAPI takes no more requests and ends those that there are: after a moment
// for the short ones, waits, streams and followed outputs end with their
// context. It tells whether all did.
func (n *Node) stopAPI() bool {
	if len(n.api) == 0 {
		return true
	}
	defer n.endAll()
	grace := time.AfterFunc(requestGrace, n.endAll)
	defer grace.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), apiPatience) // the node's own end
	defer cancel()
	var servers sync.WaitGroup
	var forced atomic.Bool
	for _, s := range n.api {
		servers.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				forced.Store(true)
				_ = s.Close() // what cannot even be closed ends with the process
			}
		})
	}
	servers.Wait()
	return !forced.Load()
}
