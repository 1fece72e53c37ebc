package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
)

// ServerName is the DNS SAN that every node certificate carries. crypto/tls
// checks a server's name before it lets anything else be checked; a node's
// true name is its SPIFFE ID.
const ServerName = "node.holdfast.internal"

// rolePath is the role in a SPIFFE path: spiffe://<cluster>/node/<node ID>.
const rolePath = "/node/"

// Errors of Identity.
var (
	ErrNoCertificate = errors.New("pki: the peer sent no certificate")
	ErrBadIdentity   = errors.New("pki: the certificate does not name a node")
)

// Identity returns the cluster and the node that the peer's certificate
// names. It demands exactly one URI SAN, of the form
// spiffe://<cluster ID>/node/<node ID>, whose node ID is the fingerprint of
// the certificate's key. It does not verify the chain: call it on a state
// whose chain is verified.
func Identity(cs tls.ConnectionState) (clusterID, nodeID string, err error) {
	if len(cs.PeerCertificates) == 0 {
		return "", "", ErrNoCertificate
	}
	return CertIdentity(cs.PeerCertificates[0])
}

// CertIdentity is Identity for one certificate.
func CertIdentity(cert *x509.Certificate) (clusterID, nodeID string, err error) {
	if len(cert.URIs) != 1 {
		return "", "", fmt.Errorf("%w: %d URI names, want exactly one", ErrBadIdentity, len(cert.URIs))
	}
	u := cert.URIs[0]
	id, ok := strings.CutPrefix(u.Path, rolePath)
	if !ok || u.String() != spiffeID(u.Host, id).String() || !ValidClusterID(u.Host) || !ValidNodeID(id) {
		return "", "", fmt.Errorf("%w: %q, want spiffe://<cluster>/node/<node ID>", ErrBadIdentity, u)
	}
	if fp := fingerprint(cert.RawSubjectPublicKeyInfo); fp != id {
		return "", "", fmt.Errorf("%w: it says %s, its key is that of %s", ErrBadIdentity, id, fp)
	}
	return u.Host, id, nil
}

func spiffeID(clusterID, nodeID string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: clusterID, Path: rolePath + nodeID}
}

// TLSCertificate joins a leaf, its key and the CA's certificate into what a
// node presents. The CA comes along because a joining node has only a pin and
// must see the key that it pins.
func TLSCertificate(leafDER []byte, key crypto.Signer, ca *x509.Certificate) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return nil, fmt.Errorf("pki: read the node's certificate: %w", err)
	}
	pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("pki: the certificate %s is not for this node's key", leaf.Subject)
	}
	return &tls.Certificate{Certificate: [][]byte{leafDER, ca.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Holder keeps the certificate that a node presents now. The zero value holds
// none. Safe for concurrent use.
type Holder struct {
	p atomic.Pointer[tls.Certificate]
}

// Get returns the current certificate, or nil. It has the type of the
// transport's certificate source.
func (h *Holder) Get() *tls.Certificate { return h.p.Load() }

// Set replaces the certificate: new handshakes use it, live connections keep
// the old one until they are replaced.
func (h *Holder) Set(c *tls.Certificate) { h.p.Store(c) }
