package node

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/consensus/storage"
	"holdfast/node/auth"
	"holdfast/node/rpc"
	"holdfast/transport"
	"holdfast/transport/pki"
)

// JoinError is the cluster's clear no. Code is one of the API's problem codes
// or token_bad.
type JoinError struct{ Code, Detail string }

// Error gives the detail.
func (e *JoinError) Error() string { return "the cluster refused this node: " + e.Detail }

// ErrJoinToken is a text that is no join token.
var ErrJoinToken = errors.New("join token")

// ErrWrongCluster is a join token that pins another CA than that of the nodes
// that answered.
var ErrWrongCluster = errors.New("the join token is for another cluster than the one that answered")

// JoinResult is what a node became.
type JoinResult struct {
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id"`
	CAPin     string `json:"ca_pin"`
	Addr      string `json:"addr"`
	Data      string `json:"data"`
}

// Join makes a node of an existing cluster in cfg.Data: it makes a key, asks
// the cluster to sign it, and trusts nothing but the pin in the token. With
// addrs, those in the token are not tried: who names a node means that one, and
// must not end up in another cluster because it refused. Start runs it
// afterwards.
func Join(ctx context.Context, cfg Config, token string, addrs []string) (*JoinResult, error) {
	t, err := auth.ParseJoinToken(token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrJoinToken, err)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := folder(cfg.Data)
	if err := f.make(); err != nil {
		return nil, err
	}
	// An earlier try may have left its key, and with it the use of the token
	// that it spent: the same key asks again for free.
	creds, err := f.credentials()
	if err == nil {
		return nil, fmt.Errorf("%s holds node %s: %w", f, creds.nodeID, ErrAlreadyInitialised)
	}
	key, err := f.loadOrMakeKey()
	if err != nil {
		return nil, err
	}
	nodeID, err := pki.NodeID(key.Public())
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewCSR(key)
	if err != nil {
		return nil, err
	}
	q := joinRequest{TokenID: t.ID, Secret: auth.FormatToken(t.ID, t.Secret), CSR: csr, Names: certificateNames(cfg)}
	named := len(addrs) > 0
	if !named {
		addrs = t.Addrs
	}
	answer, err := askToJoin(ctx, addrs, "sha256:"+hex.EncodeToString(t.CAPin[:]), q)
	if named && errors.Is(err, ErrWrongCluster) {
		return nil, fmt.Errorf("%w\nMake a token of that cluster (holdfast token create --role node), or leave the address out to join the token's own", err)
	}
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(answer.CACert)
	if err != nil {
		return nil, fmt.Errorf("the cluster's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(answer.Cert)
	if err != nil {
		return nil, fmt.Errorf("this node's certificate: %w", err)
	}
	if got, want := pki.Pin(ca), "sha256:"+hex.EncodeToString(t.CAPin[:]); got != want {
		return nil, fmt.Errorf("%w: it has a CA with pin %s, the token pins %s", ErrWrongCluster, got, want)
	}
	creds, err = assemble(key, ca, leaf)
	if err != nil {
		return nil, err
	}
	if err := f.createStore(creds); err != nil {
		return nil, err
	}
	if err := f.savePeers(answer.Peers); err != nil {
		return nil, err
	}
	if err := f.saveConfig(cfg); err != nil {
		return nil, err
	}
	if err := f.saveCertificates(ca, answer.Cert); err != nil {
		return nil, err
	}
	return &JoinResult{NodeID: nodeID, ClusterID: creds.clusterID, CAPin: pki.Pin(ca), Addr: cfg.advertised(), Data: cfg.Data}, nil
}

// askToJoin tries the addresses in turn. A clear no ends it: the other nodes
// would say the same.
func askToJoin(ctx context.Context, addrs []string, pin string, q joinRequest) (*joinAnswer, error) {
	if len(addrs) == 0 {
		return nil, errors.New("no address to join at: name a node of the cluster with --addr")
	}
	mux, err := transport.Listen(transport.Config{Addr: ":0", Logger: hclog.NewNullLogger()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = mux.Close() }()
	var errs []error
	for _, addr := range addrs {
		answer, err := askOne(ctx, mux, addr, pin, q)
		var refused *JoinError
		if err == nil || errors.As(err, &refused) && refused.Code != "unavailable" {
			return answer, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, fmt.Errorf("join the cluster: %w", errors.Join(errs...))
}

func askOne(ctx context.Context, mux *transport.Mux, addr, pin string, q joinRequest) (*joinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	conn, err := mux.DialPinned(ctx, addr, transport.Join, pin)
	if errors.Is(err, transport.ErrPinMismatch) {
		return nil, fmt.Errorf("%w: %w", ErrWrongCluster, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	s, err := conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(joinTimeout))
	var answer joinAnswer
	if err := rpc.WriteFrame(s, q); err != nil {
		return nil, err
	}
	if err := rpc.ReadFrame(s, &answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if answer.Problem != "" {
		return nil, &JoinError{Code: answer.Code, Detail: answer.Problem}
	}
	return &answer, nil
}

// certificateNames are the names under which clients may reach the node.
func certificateNames(cfg Config) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, a := range []string{cfg.Advertise, cfg.Listen} {
		if host, _, err := net.SplitHostPort(a); err == nil && !unspecified(host) && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	if host, err := os.Hostname(); err == nil && !slices.Contains(names, host) {
		names = append(names, host)
	}
	return names
}

// advertised is the address at which others reach the node.
func (c *Config) advertised() string {
	if c.Advertise != "" {
		return c.Advertise
	}
	return c.Listen
}

// createStore makes the empty log of a new node.
func (f folder) createStore(c *credentials) error {
	key, err := storage.LoadOrCreateKey(f.storeKey(), nil)
	if err != nil {
		return err
	}
	store, err := storage.Create(storage.Options{Dir: string(f), Key: key, NodeID: c.nodeID, ClusterID: c.clusterID})
	if err == nil {
		return store.Close()
	}
	if errors.Is(err, storage.ErrStoreExists) {
		// Of an earlier try of the same key; anything else is a mismatch that
		// Open would find, so find it now.
		id, readErr := storage.ReadIdentity(string(f), key)
		if readErr == nil && id.NodeID == c.nodeID && id.ClusterID == c.clusterID {
			return nil
		}
		return errors.Join(err, readErr)
	}
	return err
}
