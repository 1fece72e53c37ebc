package storage

import (
	"crypto/rand"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Options describe a store. Dir, Key, NodeID and ClusterID are required.
type Options struct {
	Dir       string // the folder; created 0700 by Create
	Key       Key    // from LoadOrCreateKey
	NodeID    string
	ClusterID string
	Logger    hclog.Logger // default: none

	// StallLimit is how long one write may take (default DefaultStallLimit).
	StallLimit time.Duration
	// OnStall is called in a goroutine of its own while the stuck write is still
	// under way, and again every eighth of the limit until the write ends or
	// OnStall says that this was enough. A leader should give up its office and
	// exit at once.
	OnStall func(op string, elapsed time.Duration) (enough bool)
	// OnFailed is called once, in the goroutine that met the failure, which
	// may be raft's main one: it must not wait for raft. After it every write
	// fails, and raft itself panics when it cannot save a term: exit soon.
	OnFailed func(error)
	// Observe gets the duration of every write, for a histogram.
	Observe func(op string, d time.Duration)

	Backend     OpenBackend // default Journaled(OpenBolt)
	RingEntries int         // default 4,096
	RingBytes   int64       // default 64 MiB
	Retain      int         // snapshots to keep, default 2

	Rand io.Reader        // default crypto/rand; fixed in golden tests
	Now  func() time.Time // default time.Now
}

func (o *Options) now() time.Time { return o.Now() }

func (o *Options) check() error {
	if o.Dir == "" || o.NodeID == "" || o.ClusterID == "" || o.Key == (Key{}) {
		return errors.New("storage options: Dir, Key, NodeID and ClusterID are required")
	}
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	if o.StallLimit <= 0 {
		o.StallLimit = DefaultStallLimit
	}
	if o.Backend == nil {
		o.Backend = Journaled(OpenBolt)
	}
	if o.RingEntries <= 0 {
		o.RingEntries = defaultRingEntries
	}
	if o.RingBytes <= 0 {
		o.RingBytes = defaultRingBytes
	}
	if o.Retain <= 0 {
		o.Retain = defaultRetain
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
