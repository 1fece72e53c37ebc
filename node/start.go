package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"holdfast/consensus"
	"holdfast/consensus/storage"
	"holdfast/fsm"
	"holdfast/node/audit"
	"holdfast/node/forward"
	"holdfast/node/rpc"
	"holdfast/node/worker"
	"holdfast/node/worker/outputs"
	"holdfast/transport"
	"holdfast/transport/evidence"
	"holdfast/transport/gossip"
	"holdfast/transport/pki"
	"holdfast/transport/rafttransport"
)

// start is Start with other parts.
func start(ctx context.Context, cfg Config, logger hclog.Logger, p parts) (_ *Node, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	n := &Node{
		cfg: cfg, parts: p, log: logger, now: time.Now, folder: folder(cfg.Data),
		incarnation: rand.Uint64() | 1, // 0 would mean "none"
		registry:    prometheus.NewRegistry(), grouped: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			n.cancel(err)
			n.release()
		}
	}()
	for _, step := range []func() error{
		n.openFolder, n.listen, n.startSandboxes, n.openOutputs, n.joinGroup, n.startGossip, n.serveAPI,
	} {
		if err := step(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	n.startWorker()
	n.work.Go(n.watchSocket)
	n.work.Go(n.keepCertificate)
	n.work.Go(n.keepPeers)
	n.log.Info("node serves", "id", n.id, "addr", n.addr, "cluster", n.clusterID, "version", Version())
	if w := n.mux.ReceiveBufferWarning(); w != "" {
		n.log.Warn(w)
	}
	return n, nil
}

// openFolder reads who this node is and opens its log.
func (n *Node) openFolder() error {
	creds, err := n.folder.credentials()
	if err != nil {
		return err
	}
	n.creds, n.id, n.clusterID = creds, creds.nodeID, creds.clusterID
	n.cert.Set(creds.cert)
	key, err := storage.LoadKey(n.folder.storeKey(), nil)
	if err != nil {
		return fmt.Errorf("read the store's key: %w", err)
	}
	n.store, err = storage.Open(storage.Options{
		Dir: string(n.folder), Key: key, NodeID: n.id, ClusterID: n.clusterID, Logger: n.log.Named("storage"),
		Backend:    n.parts.backend,
		StallLimit: time.Duration(n.cfg.StallLimit),
		OnStall:    n.diskStalls,
		OnFailed: func(err error) {
			n.abandon(fmt.Errorf("the log could not be written, so that nothing in it may be trusted before a restart: %w", err))
		},
	})
	if storage.NeedsRejoin(err) {
		return fmt.Errorf("%w\nThis node can no longer prove what it promised the others, so that it may not vote under its old identity. Remove it (holdfast nodes remove %s), delete %s, and join again with a new token", err, n.id, n.folder)
	}
	if err != nil {
		return fmt.Errorf("open the log in %s: %w", n.folder, err)
	}
	peers, err := n.folder.readPeers()
	if err != nil {
		n.log.Warn("starting without remembered addresses", "error", err)
	}
	n.book = addressBook{addrs: peers, save: n.folder.savePeers}
	n.audit, err = audit.Open(audit.Config{
		Dir: n.folder.audit(), Key: key.Subkey(auditLabel), Now: n.now,
		OnError: func(err error) {
			n.log.Error("the audit log cannot be written: changes are refused until it can", "error", err)
		},
	})
	if err != nil {
		return fmt.Errorf("open the audit log in %s: %w", n.folder.audit(), err)
	}
	n.state = fsm.New(fsm.Limits{})
	return nil
}

// auditLabel names the key of the audit log's hashes: who can write the files
// but not read the store's key cannot make a new chain.
const auditLabel = "holdfast/audit/v1"

func (n *Node) openOutputs() error {
	key, err := storage.LoadKey(n.folder.storeKey(), nil)
	if err != nil {
		return err
	}
	n.outputs, err = outputs.Open(outputs.Config{
		Dir: n.folder.outputs(), Key: key.Subkey(storage.LabelOutputs), MaxBytes: n.cfg.OutputBytes, Logger: n.log.Named("outputs"),
	})
	if err != nil {
		return fmt.Errorf("open the outputs in %s: %w", n.folder.outputs(), err)
	}
	return nil
}

// joinGroup takes this node's part in the raft group.
func (n *Node) joinGroup() error {
	var err error
	n.raft, err = rafttransport.New(rafttransport.Config{
		Mux: n.mux, LocalAddr: n.addr, Resolve: n.resolve, Logger: n.log.Named("raft-transport"),
	})
	if err != nil {
		return fmt.Errorf("raft transport: %w", err)
	}
	// What the group's callbacks use must be there before they can come.
	n.rpc = &rpc.Client{Open: n.openStream(transport.RPC)}
	n.bulk = &rpc.Client{Open: n.openStream(transport.Bulk)}
	n.reads.ask = n.askReadIndex
	n.newLeaderParts()
	n.newWorker()
	stable := time.Duration(n.cfg.Stable)
	n.group, err = consensus.Open(consensus.Config{
		ID: n.id, Transport: raftLink{n.raft, n.mux},
		Logs: n.store.Logs(), Stable: n.store.Stable(), Snapshots: n.store.Snapshots(),
		State: consensus.Adapt(n.state), EncodeBatch: fsm.EncodeBatch, CheckSnapshot: checkSnapshot,
		Compress: storage.Compressing, Decompress: storage.Decompressing,
		Timing: consensus.Timing{
			Heartbeat: time.Duration(n.cfg.Raft.Heartbeat), Election: time.Duration(n.cfg.Raft.Election), Lease: time.Duration(n.cfg.Raft.Lease),
		},
		Autopilot: consensus.AutopilotConfig{
			MaxVoters: n.cfg.Voters, Stable: stable, Interval: min(time.Second, stable),
		},
		Now: n.now, Elapsed: bootClock, Metrics: n.registry, Logger: n.log.Named("raft"),
		OnFatal: n.fail, OnApplied: n.applied, OnRestored: n.restored,
	})
	if err != nil {
		return fmt.Errorf("start the raft group: %w", err)
	}
	close(n.grouped)
	n.forward = forward.New(forward.Config{Group: n.group, Open: n.openForward, Logger: n.log.Named("forward"), Now: n.now})
	n.serveRPC()
	if n.gossip, err = gossip.New(gossip.Config{Mux: n.mux, Logger: n.log.Named("gossip")}); err != nil {
		return fmt.Errorf("gossip transport: %w", err)
	}
	if err := n.mux.Serve(); err != nil {
		return err
	}
	prober := evidence.New(evidence.Config{Report: n.evidence, Busy: busyWhile(n.group.AppliedIndex, n.now)})
	n.work.Go(func() { <-n.ctx.Done(); prober.Close() })
	n.group.OnLeaderChange(func(l consensus.LeaderInfo) { n.leaderChanged(prober, l) })
	n.group.OnLeadership(n.lead)
	return nil
}

// raftLink is the raft transport as consensus uses it: a node that gives up
// says so to its peers at once, by closing everything.
type raftLink struct {
	*rafttransport.Transport
	mux *transport.Mux
}

// Cut ends this node's conversations with its peers.
func (l raftLink) Cut(string) { go func() { _ = l.mux.Close() }() }

func (n *Node) applied(_ uint64, changes []fsm.Change) {
	n.loop.Notify(changes)
	n.leases.Notify(changes)
	n.hub.Notify(changes)
	n.watch.changed(changes)
	for i := range changes {
		if changes[i].Kind == fsm.ChangeNode {
			n.nodeChanged(changes[i].Node)
		}
	}
}

// nodeChanged runs on the apply goroutine.
func (n *Node) nodeChanged(id fsm.NodeID) {
	if !n.state.Revoked(id) {
		return
	}
	if string(id) == n.id {
		n.fail(ErrRemoved)
		return
	}
	n.work.Go(func() {
		n.mux.CloseNode(string(id))
		if err := n.book.forget(string(id)); err != nil {
			n.log.Warn("address book not stored", "error", err)
		}
	})
}

// restored runs on the apply goroutine: everything may have changed, and no
// change tells of it.
func (n *Node) restored(uint64) {
	n.watch.all()
	n.loop.Wake()
	n.leases.Notify([]fsm.Change{{Kind: fsm.ChangeNode}})
	n.hub.Restored()
	if n.state.Revoked(fsm.NodeID(n.id)) {
		n.fail(ErrRemoved)
	}
}

// watchSocket ends a node that has lost its socket: nothing else would show
// before every connection has timed out.
func (n *Node) watchSocket() {
	select {
	case <-n.mux.Done():
		n.fail(fmt.Errorf("the socket for node traffic failed: %w", n.mux.Err()))
	case <-n.ctx.Done():
	}
}

// newWorker makes what runs tasks here.
func (n *Node) newWorker() {
	n.worker = worker.New(worker.Config{
		Node: fsm.NodeID(n.id), Incarnation: n.incarnation, Capacity: n.capacity(),
		Connect: n.connectWorker, Register: n.register, Executor: n.attempts(), Outputs: n.outputs,
		Now: bootClock, Logger: n.log.Named("worker"), Registerer: n.registry,
	})
}

// startWorker runs tasks here, once the proof of isolation is there and the
// cluster knows this incarnation.
func (n *Node) startWorker() {
	n.workerDone = make(chan struct{})
	// Not the node's own context: a node that stops drains its worker first.
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.ctx))
	n.stopWorker = cancel
	go func() {
		defer close(n.workerDone)
		<-n.proved
		err := n.register(ctx)
		if err == nil && n.isolates.Load() {
			err = n.worker.Run(ctx)
		}
		n.workerEnded(err)
	}()
}

func (n *Node) workerEnded(err error) {
	var refused *rpc.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
	case errors.Is(err, worker.ErrRemoved), errors.As(err, &refused) && refused.Code == rpc.CodeForbidden:
		n.fail(fmt.Errorf("%w: %w", ErrRemoved, err))
	default:
		n.fail(err)
	}
}

// ownerUID is who owns the data folder.
func (n *Node) ownerUID() uint32 { return uint32(os.Geteuid()) }

// resetSecret lets peers learn of a restart from their next packet.
func resetSecret(c *credentials) ([]byte, error) { return pki.ResetSecret(c.key) }
