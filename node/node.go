package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"holdfast/consensus"
	"holdfast/consensus/storage"
	"holdfast/fsm"
	"holdfast/node/api"
	"holdfast/node/audit"
	"holdfast/node/forward"
	"holdfast/node/membership"
	"holdfast/node/rpc"
	"holdfast/node/scheduler"
	"holdfast/node/worker"
	"holdfast/node/worker/dispatch"
	"holdfast/node/worker/lease"
	"holdfast/node/worker/outputs"
	"holdfast/sandbox"
	"holdfast/transport"
	"holdfast/transport/gossip"
	"holdfast/transport/pki"
	"holdfast/transport/rafttransport"
)

// FeatureLevel is the newest level that this release understands.
const FeatureLevel = 1

// Node is one running node. Start makes it, Shutdown ends it.
type Node struct {
	cfg         Config
	parts       parts
	log         hclog.Logger
	now         func() time.Time
	folder      folder
	id          string
	clusterID   string
	incarnation uint64
	addr        string // host:port at which others reach this node
	registry    *prometheus.Registry

	creds *credentials // as of the start; cert changes in holder
	cert  pki.Holder

	store   *storage.Store
	state   *fsm.State
	mux     *transport.Mux
	raft    *rafttransport.Transport
	group   *consensus.Group
	grouped chan struct{} // closed once group is set
	forward *forward.Forwarder
	rpc     *rpc.Client // class rpc: short calls and sessions
	bulk    *rpc.Client // class bulk: outputs and snapshots
	gossip  *gossip.Transport
	members atomic.Pointer[membership.Membership]
	audit   *audit.Log
	reads   coalescer
	watch   watchers
	book    addressBook

	// On every node, idle unless it leads.
	loop   *scheduler.Loop
	leases *lease.Keeper
	hub    *dispatch.Hub

	sandbox    *sandbox.Runtime
	weaker     []string      // walls that it does without, as configured
	proved     chan struct{} // closed once isolates is decided
	isolates   atomic.Bool   // the proof at start held: tasks may run here
	outputs    *outputs.Store
	worker     *worker.Worker
	stopWorker context.CancelFunc
	workerDone chan struct{} // closed when the worker's Run has returned; nil without a worker

	server  atomic.Pointer[api.Server] // nil until the API serves
	api     []*http.Server
	asked   context.Context // of every request over HTTP; outlives ctx by a moment
	endAll  context.CancelFunc
	tcp     net.Listener
	unix    net.Listener
	serving sync.WaitGroup

	ctx        context.Context // ends when the node stops
	cancel     context.CancelCauseFunc
	work       sync.WaitGroup // goroutines that end with ctx
	draining   atomic.Bool
	registered atomic.Bool   // the cluster has taken this incarnation
	stopped    chan struct{} // closed when nothing of the node is left
	stopOnce   sync.Once
	stopErr    error
}

// ErrRemoved ends a node that was removed from its cluster.
var ErrRemoved = errors.New("this node was removed from its cluster; its data folder is of no further use")

// ID is the node's ID.
func (n *Node) ID() string { return n.id }

// Addr is the host:port at which the node serves.
func (n *Node) Addr() string { return n.addr }

// Socket is the path of the unix socket for the owner of the data folder.
func (n *Node) Socket() string { return n.folder.socket() }

// Failed is closed when the node can no longer do its work; Cause says why.
// Shutdown is still the caller's to call.
func (n *Node) Failed() <-chan struct{} { return n.ctx.Done() }

// Cause is why the node failed, or nil.
func (n *Node) Cause() error { return context.Cause(n.ctx) }

// fail ends the node's work for a reason. The first one counts.
func (n *Node) fail(err error) {
	n.log.Error("the node stops", "reason", err)
	n.cancel(err)
}
