package node

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/consensus/storage"
	"holdfast/node/worker"
	"holdfast/sandbox"
)

// parts replace what a node is usually made of. Only measurements have a
// reason to: a disk with a known fsync, or tasks that cost nothing.
type parts struct {
	backend  storage.OpenBackend // default: the store's own
	executor worker.Executor     // default: this host's sandboxes
}

// Start runs the node in cfg.Data and returns when it serves clients. It may
// not be registered with the cluster yet: that needs a leader.
func Start(ctx context.Context, cfg Config, logger hclog.Logger) (*Node, error) {
	return start(ctx, cfg, logger, parts{})
}

// attempts is what starts attempts here.
func (n *Node) attempts() worker.Executor {
	if n.parts.executor != nil {
		return n.parts.executor
	}
	// The worker stops a sixth of a lease early; half of that is left.
	return executor{runtime: n.sandbox, late: time.Duration(n.cfg.Lease) / 12}
}

// abilities are what this host's sandboxes can do.
func (n *Node) abilities() []sandbox.Ability {
	if n.sandbox == nil {
		return nil
	}
	return n.sandbox.Abilities()
}
