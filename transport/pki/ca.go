package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// clockSkew is how far a new certificate reaches into the past: a node
	// whose clock is behind the signer's must not refuse it.
	clockSkew = 5 * time.Minute

	// pinPrefix names the hash, so that another one can follow.
	pinPrefix = "sha256:"

	// maxSANs bounds the extra names in one certificate.
	maxSANs = 64
)

// Errors of the certificate authority.
var (
	ErrBadRequest = errors.New("pki: bad signing request")
	ErrBadCluster = errors.New("pki: bad cluster ID")
	ErrNotCA      = errors.New("pki: not a CA certificate")
)

// CA signs the certificates of one cluster's nodes. It is immutable.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// SignRequest says what SignNode is to put into a certificate.
type SignRequest struct {
	ClusterID string
	Now       time.Time
	TTL       time.Duration
	// DNSNames and IPs are additional SANs: the names under which clients
	// reach this node's API. At most 64 together.
	DNSNames []string
	IPs      []net.IP
}

// NewCA makes a CA of its own key for clusterID, valid for ttl from now.
func NewCA(clusterID string, now time.Time, ttl time.Duration) (*CA, error) {
	if !ValidClusterID(clusterID) {
		return nil, fmt.Errorf("%w: %q: want 1 to 63 of a-z, 0-9 and '-'", ErrBadCluster, clusterID)
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "holdfast cluster " + clusterID},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(ttl),
		IsCA:         true,
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		// A CA of leaves only: nothing that it signed can sign again.
		MaxPathLen:            0,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign the CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: read the new CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// LoadCA reads a CA from the PEM of its certificate and of its key.
func LoadCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := DecodeCerts(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := DecodeKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !certs[0].IsCA {
		return nil, fmt.Errorf("%w: %s", ErrNotCA, certs[0].Subject)
	}
	pub, ok := certs[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("pki: the key does not belong to the CA certificate %s", certs[0].Subject)
	}
	return &CA{cert: certs[0], key: key}, nil
}

// Cert returns the CA's certificate.
func (ca *CA) Cert() *x509.Certificate { return ca.cert }

// CertPEM returns the CA's certificate as PEM.
func (ca *CA) CertPEM() []byte { return EncodeCerts(ca.cert.Raw) }

// KeyPEM returns the CA's private key as PEM. The result is a secret.
func (ca *CA) KeyPEM() ([]byte, error) { return EncodeKey(ca.key) }

// Pin returns the CA's pin, see [Pin].
func (ca *CA) Pin() string { return Pin(ca.cert) }

// Pool returns a new pool that holds the CA's certificate alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// Pin returns "sha256:" and the hex of the SHA-256 of cert's
// SubjectPublicKeyInfo: what an operator copies to a joining node. It names
// the key and so survives the renewal of the CA's certificate.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinPrefix + hex.EncodeToString(sum[:])
}

// ValidPin tells whether s has the shape of a pin.
func ValidPin(s string) bool {
	h, ok := strings.CutPrefix(s, pinPrefix)
	if !ok || len(h) != 2*sha256.Size || strings.ToLower(h) != h {
		return false
	}
	_, err := hex.DecodeString(h)
	return err == nil
}

// ValidClusterID tells whether s may name a cluster: 1 to 63 characters of
// a-z, 0-9 and '-', so that it is a URI host and cannot smuggle a path.
func ValidClusterID(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// NewCSR returns a signing request (DER) for key. It carries no names: the
// signer decides them.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("pki: make a signing request: %w", err)
	}
	return der, nil
}

// SignNode checks that the sender of csr (DER) holds its key and returns the
// node's certificate (DER). The node ID follows from the key; every name in
// the request is ignored.
func (ca *CA) SignNode(csr []byte, req SignRequest) ([]byte, error) {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: signature: %w", ErrBadRequest, err)
	}
	if !allowedKey(r.PublicKey) {
		return nil, fmt.Errorf("%w: key %T is neither ECDSA P-256 nor Ed25519", ErrBadRequest, r.PublicKey)
	}
	if !ValidClusterID(req.ClusterID) {
		return nil, fmt.Errorf("%w: %q", ErrBadCluster, req.ClusterID)
	}
	if req.TTL <= 0 || len(req.DNSNames)+len(req.IPs) > maxSANs {
		return nil, fmt.Errorf("%w: lifetime %v with %d names: want more than 0 and at most %d",
			ErrBadRequest, req.TTL, len(req.DNSNames)+len(req.IPs), maxSANs)
	}
	id := fingerprint(r.RawSubjectPublicKeyInfo)
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id},
		NotBefore:    req.Now.Add(-clockSkew),
		// A leaf that outlives its CA is refused anyway; saying so early lets
		// the node renew in time.
		NotAfter:              earlier(req.Now.Add(req.TTL), ca.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              append([]string{ServerName}, without(req.DNSNames, ServerName)...),
		IPAddresses:           req.IPs,
		URIs:                  []*url.URL{spiffeID(req.ClusterID, id)},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, r.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign the certificate of node %s: %w", id, err)
	}
	return der, nil
}

func newSerial() (*big.Int, error) {
	// 120 bits: unique without a counter that would have to be replicated.
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("pki: draw a serial number: %w", err)
	}
	return n, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
}
