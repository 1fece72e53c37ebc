package client

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	pinPrefix = "sha256:"
	// nodeRole is the path of a node's SPIFFE ID, spiffe://<cluster>/node/<id>.
	nodeRole = "/node/"
)

// ErrUntrusted is wrapped by every refusal of a server's certificate.
var ErrUntrusted = errors.New("the server is not a node of the trusted cluster")

// TLSConfig returns a client's TLS configuration that trusts the nodes of one
// cluster: by the pin of its CA ("sha256:<hex>" of the SubjectPublicKeyInfo),
// by the CA's certificate in PEM, or, if both are given, by both.
//
// A server's DNS name and address are not compared: the CA signs nodes of this
// cluster alone, any of them may answer any request, and operators reach them
// through addresses that no certificate can foresee. What is compared is the
// role: the leaf must carry a node's SPIFFE ID.
func TLSConfig(caPin string, caPEM []byte) (*tls.Config, error) {
	return tlsConfig(caPin, caPEM, time.Now)
}

func tlsConfig(caPin string, caPEM []byte, now func() time.Time) (*tls.Config, error) {
	if caPin == "" && len(caPEM) == 0 {
		return nil, fmt.Errorf("%w: no trust anchor: give the cluster's CA pin (sha256:...) or its certificate", ErrConfig)
	}
	v := &verifier{now: now}
	if caPin != "" {
		h, ok := strings.CutPrefix(caPin, pinPrefix)
		pin, err := hex.DecodeString(h)
		if !ok || err != nil || len(pin) != sha256.Size {
			return nil, fmt.Errorf("%w: CA pin %q: want sha256: and 64 hex digits", ErrConfig, caPin)
		}
		v.pin = pin
	}
	if len(caPEM) > 0 {
		cas, err := parseCerts(caPEM)
		if err != nil {
			return nil, err
		}
		v.cas = cas
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The library would compare names; VerifyConnection checks more than
		// it would, and runs on resumed sessions as well.
		InsecureSkipVerify: true,
		VerifyConnection:   v.verify,
	}, nil
}

func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: CA certificate: found a %s block, want CERTIFICATE alone", ErrConfig, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: CA certificate: %w", ErrConfig, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: CA certificate: no PEM block found", ErrConfig)
	}
	return out, nil
}

// verifier checks a server's chain. It is immutable.
type verifier struct {
	pin []byte              // nil: any of cas
	cas []*x509.Certificate // nil: whichever the server sends that has the pin
	now func() time.Time
}

func (v *verifier) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it sent no certificate", ErrUntrusted)
	}
	leaf := cs.PeerCertificates[0]
	candidates := v.cas
	if candidates == nil {
		candidates = cs.PeerCertificates[1:]
	}
	roots, found := x509.NewCertPool(), false
	for _, c := range candidates {
		if c.IsCA && v.pinned(c) {
			roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%w: its chain holds no CA with the pinned key; if the cluster was made anew, copy its new CA pin", ErrUntrusted)
	}
	inter := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		inter.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: inter, CurrentTime: v.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" || !strings.HasPrefix(leaf.URIs[0].Path, nodeRole) {
		return fmt.Errorf("%w: its certificate is not a node's", ErrUntrusted)
	}
	return nil
}

func (v *verifier) pinned(c *x509.Certificate) bool {
	if v.pin == nil {
		return true
	}
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return subtle.ConstantTimeCompare(sum[:], v.pin) == 1
}
