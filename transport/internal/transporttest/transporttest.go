// Package transporttest makes clusters of transports for tests: real keys,
// certificates, sockets on the loopback.
package transporttest

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/pki"
)

// Patience is how long Eventually waits: far beyond what a busy machine needs.
const Patience = 20 * time.Second

// Cluster is a CA and the revocation set that its nodes share.
type Cluster struct {
	ID string
	CA *pki.CA

	mu      sync.Mutex
	revoked []string
}

// Node is a transport with its key. Its Mux does not serve before Serve.
type Node struct {
	*transport.Mux
	ID   string
	Key  crypto.Signer
	Cert pki.Holder
	pc   net.PacketConn
}

// New makes a cluster.
func New(t testing.TB, id string) *Cluster {
	t.Helper()
	ca, err := pki.NewCA(id, time.Now(), 24*time.Hour)
	must(t, err)
	return &Cluster{ID: id, CA: ca}
}

// Key makes a node key.
func Key(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := pki.NewKey()
	must(t, err)
	return k
}

// Issue signs a certificate for key.
func (c *Cluster) Issue(t testing.TB, key crypto.Signer, ttl time.Duration) *tls.Certificate {
	t.Helper()
	return c.IssueAt(t, key, time.Now(), ttl)
}

// IssueAt signs a certificate for key as if the clock showed now.
func (c *Cluster) IssueAt(t testing.TB, key crypto.Signer, now time.Time, ttl time.Duration) *tls.Certificate {
	t.Helper()
	csr, err := pki.NewCSR(key)
	must(t, err)
	der, err := c.CA.SignNode(csr, pki.SignRequest{ClusterID: c.ID, Now: now, TTL: ttl})
	must(t, err)
	cert, err := pki.TLSCertificate(der, key, c.CA.Cert())
	must(t, err)
	return cert
}

// Revoke puts a node into the revocation set.
func (c *Cluster) Revoke(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, id)
}

// Revoked tells whether a node is in the revocation set.
func (c *Cluster) Revoked(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.revoked, id)
}

// Node makes a node with a key of its own; it closes with the test.
func (c *Cluster) Node(t testing.TB, opts ...func(*transport.Config)) *Node {
	t.Helper()
	return c.NodeWithKey(t, Key(t), opts...)
}

// NodeWithKey makes a node with the given key; it closes with the test.
func (c *Cluster) NodeWithKey(t testing.TB, key crypto.Signer, opts ...func(*transport.Config)) *Node {
	t.Helper()
	id, err := pki.NodeID(key.Public())
	must(t, err)
	secret, err := pki.ResetSecret(key)
	must(t, err)
	n := &Node{ID: id, Key: key}
	n.Cert.Set(c.Issue(t, key, time.Hour))
	pool := c.CA.Pool()
	cfg := transport.Config{
		Addr: "127.0.0.1:0", NodeID: id, ClusterID: c.ID,
		Certificate: n.Cert.Get,
		Roots:       func() *x509.CertPool { return pool },
		Revoked:     c.Revoked,
		ResetSecret: secret,
	}
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.PacketConn == nil {
		ua, err := net.ResolveUDPAddr("udp", cfg.Addr)
		must(t, err)
		pc, err := net.ListenUDP("udp", ua)
		must(t, err)
		cfg.PacketConn = pc
	}
	n.pc = cfg.PacketConn
	n.Mux, err = transport.Listen(cfg)
	must(t, err)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// Start serves.
func (n *Node) Start(t testing.TB) *Node {
	t.Helper()
	must(t, n.Serve())
	return n
}

// Crash takes the socket away, as the kernel does when a process dies: no
// farewell to anyone, and the port is free.
func (n *Node) Crash() { _ = n.pc.Close() }

// Eventually waits until cond holds.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v still not: %s", Patience, what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
