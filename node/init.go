package node

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"holdfast/consensus"
	"holdfast/consensus/memtransport"
	"holdfast/consensus/storage"
	"holdfast/fsm"
	"holdfast/node/auth"
	"holdfast/transport/pki"
)

// caLife is that of the cluster: its CA is not rotated by this release.
const caLife = 20 * 365 * 24 * time.Hour

// initTimeout bounds the making of a one-node cluster on a local disk.
const initTimeout = 30 * time.Second

// InitResult is a new cluster. AdminToken is shown this once: only its hash
// is stored.
type InitResult struct {
	ClusterID  string `json:"cluster_id"`
	NodeID     string `json:"node_id"`
	CAPin      string `json:"ca_pin"`
	AdminToken string `json:"admin_token"`
	Addr       string `json:"addr"`
	Data       string `json:"data"`
}

// Init makes a new cluster of one node in cfg.Data: keys, certificates, and a
// log whose first commands are the cluster's identity and the first admin
// token. Start runs it afterwards.
func Init(ctx context.Context, cfg Config) (*InitResult, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := folder(cfg.Data)
	if err := f.make(); err != nil {
		return nil, err
	}
	clusterID, err := newClusterID()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	ca, err := pki.NewCA(clusterID, now, caLife)
	if err != nil {
		return nil, err
	}
	key, err := f.loadOrMakeKey()
	if err != nil {
		return nil, err
	}
	creds, leaf, err := firstCertificate(ca, key, clusterID, now, cfg)
	if err != nil {
		return nil, err
	}
	id, secret, err := auth.NewToken(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, cfg, creds, ca, fsm.CreateToken{ID: id, Name: "first admin", Role: fsm.RoleAdmin, Hash: secret.Hash()}); err != nil {
		return nil, fmt.Errorf("make the cluster's log in %s: %w", f, err)
	}
	if err := f.saveConfig(cfg); err != nil {
		return nil, err
	}
	if err := f.saveCertificates(ca.Cert(), leaf); err != nil {
		return nil, err
	}
	return &InitResult{
		ClusterID: clusterID, NodeID: creds.nodeID, CAPin: ca.Pin(), AdminToken: auth.FormatToken(id, secret),
		Addr: cfg.advertised(), Data: cfg.Data,
	}, nil
}

func newClusterID() (string, error) {
	b := make([]byte, 10)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b)), nil
}

// found writes the beginning of the cluster's log through raft itself, as the
// only voter of a group without a network.
func (f folder) found(ctx context.Context, cfg Config, creds *credentials, ca *pki.CA, admin fsm.CreateToken) (err error) {
	key, err := storage.LoadOrCreateKey(f.storeKey(), nil)
	if err != nil {
		return err
	}
	// A store without a certificate beside it is the rest of an init that was
	// cut short: nothing in it was ever used.
	store, err := storage.Create(storage.Options{Dir: string(f), Key: key, NodeID: creds.nodeID, ClusterID: creds.clusterID})
	if errors.Is(err, storage.ErrStoreExists) {
		return fmt.Errorf("%w (left by an init that was cut short: remove %s and run init again)", err, f)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	network := memtransport.New(time.Second, 0)
	defer network.Close()
	state := fsm.New(fsm.Limits{})
	group, err := consensus.Open(consensus.Config{
		ID: creds.nodeID, Transport: network.Join(raft.ServerAddress(cfg.advertised())),
		Logs: store.Logs(), Stable: store.Stable(), Snapshots: store.Snapshots(),
		State: consensus.Adapt(state), EncodeBatch: fsm.EncodeBatch,
		Bootstrap: true, Logger: hclog.NewNullLogger(),
		// Alone: nobody to wait for.
		Timing: consensus.Timing{Heartbeat: 20 * time.Millisecond, Election: 20 * time.Millisecond, Lease: 20 * time.Millisecond, Commit: 5 * time.Millisecond},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.Shutdown()) }()

	caKey, err := ca.KeyPEM()
	if err != nil {
		return err
	}
	initial := fsm.InitCluster{
		ClusterID: creds.clusterID, CACert: ca.CertPEM(), CAKey: caKey, First: fsm.NodeID(creds.nodeID),
		Settings: fsm.Settings{QueueBound: cfg.QueueBound},
	}
	ctx, cancel := context.WithTimeout(ctx, initTimeout)
	defer cancel()
	for _, c := range []struct {
		kind fsm.CommandType
		body any
	}{{fsm.CmdInitCluster, initial}, {fsm.CmdCreateToken, admin}} {
		cmd, err := fsm.NewCommand(c.kind, fsm.RequestID{}, "init", c.body)
		if err != nil {
			return err
		}
		if err := proposeWhenLeading(ctx, group, cmd); err != nil {
			return err
		}
	}
	return nil
}

// proposeWhenLeading waits for the only voter to elect itself.
func proposeWhenLeading(ctx context.Context, group *consensus.Group, cmd []byte) error {
	for {
		result, _, err := group.Propose(ctx, cmd)
		var nl *consensus.NotLeaderError
		switch {
		case err == nil && result.Code == fsm.OK:
			return nil
		case err == nil:
			return fmt.Errorf("%s: %s", result.Code, result.Detail)
		case !errors.As(err, &nl):
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
