package transport

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"holdfast/transport/pki"
)

// noProtocol is offered to nobody. A handshake for a class that is not served
// gets it, so that crypto/tls ends it with the proper alert
// (no_application_protocol) instead of an internal error.
const noProtocol = "holdfast-none"

// maxChain bounds a peer's chain: leaf, one or two CAs during a change.
const maxChain = 4

func (m *Mux) present() (*tls.Certificate, error) {
	c := m.cfg.Certificate()
	if c == nil {
		return nil, ErrNoIdentity
	}
	return c, nil
}

// presentLast is present for a handshake that holds a turn.
func (m *Mux) presentLast(t *ticket) (*tls.Certificate, error) {
	cert, err := m.present()
	if err != nil {
		return nil, err
	}
	signer, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return cert, nil // the turn ends by itself
	}
	last := *cert
	last.PrivateKey = lastStep{signer, t}
	return &last, nil
}

func (m *Mux) baseTLS(proto string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{proto},
		SessionTicketsDisabled: true,
		Time:                   m.cfg.Now,
	}
}

// serverTLS returns the listener's configuration: everything is decided per
// handshake, because roots and certificates change at run time.
func (m *Mux) serverTLS() *tls.Config {
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.present() }
	base := m.baseTLS(noProtocol)
	base.GetCertificate = get
	base.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c := m.baseTLS(noProtocol)
		c.GetCertificate = get
		for _, p := range h.SupportedProtos {
			class, known := classOf(p)
			if !known || m.handlers[class] == nil {
				continue
			}
			c.NextProtos = []string{p}
			if class.Mutual() {
				if c.ClientCAs = m.cfg.Roots(); c.ClientCAs == nil {
					return nil, ErrNoRoots
				}
				c.ClientAuth = tls.RequireAndVerifyClientCert
				c.VerifyConnection = func(cs tls.ConnectionState) error {
					_, err := m.verifyPeer(cs, "")
					return err
				}
			} else if t := ticketOf(h.Context()); t != nil {
				if err := t.take(m.ctx); err != nil {
					return nil, err
				}
				c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.presentLast(t) }
			}
			break
		}
		return c, nil
	}
	return base
}

// clientTLS returns the configuration for a dial within the cluster.
func (m *Mux) clientTLS(class Class, want string) (*tls.Config, error) {
	c := m.baseTLS(class.ALPN())
	if c.RootCAs = m.cfg.Roots(); c.RootCAs == nil {
		return nil, ErrNoRoots
	}
	c.ServerName = pki.ServerName
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := m.verifyPeer(cs, want)
		return err
	}
	if class.Mutual() {
		if _, err := m.present(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.present() }
	}
	return c, nil
}

// verifyPeer checks a peer whose chain crypto/tls has verified: that it is a
// node of this cluster, not removed, and the one that was wanted, if any.
func (m *Mux) verifyPeer(cs tls.ConnectionState, want string) (string, error) {
	if len(cs.VerifiedChains) == 0 {
		return "", errors.New("transport: the peer's chain is not verified")
	}
	if n := len(cs.PeerCertificates); n > maxChain {
		return "", fmt.Errorf("transport: the peer sent %d certificates, at most %d", n, maxChain)
	}
	cluster, id, err := pki.Identity(cs)
	switch {
	case err != nil:
		return "", err
	case cluster != m.cfg.ClusterID:
		return "", fmt.Errorf("%w: %q, ours is %q", ErrWrongCluster, cluster, m.cfg.ClusterID)
	case want != "" && id != want:
		return "", fmt.Errorf("%w: %s, wanted %s", ErrWrongNode, id, want)
	case m.cfg.Revoked(id):
		return "", fmt.Errorf("%w: %s", ErrRevoked, id)
	}
	return id, nil
}

// pinnedTLS trusts one thing: a CA in the server's chain whose key has the
// pinned hash. crypto/tls cannot know the root before the handshake, hence
// InsecureSkipVerify with the whole verification in VerifyConnection, which
// runs on every handshake (VerifyPeerCertificate would not on resumption).
func (m *Mux) pinnedTLS(class Class, pin string) *tls.Config {
	c := m.baseTLS(class.ALPN())
	c.ServerName = pki.ServerName
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error { return verifyPinned(cs, pin, m.cfg.Now()) }
	return c
}

func verifyPinned(cs tls.ConnectionState, pin string, now time.Time) error {
	if n := len(cs.PeerCertificates); n == 0 || n > maxChain {
		return fmt.Errorf("transport: the server sent %d certificates, want 2 to %d", n, maxChain)
	}
	// The leaf itself is no candidate: a pin names a CA.
	for _, ca := range cs.PeerCertificates[1:] {
		if !ca.IsCA || pki.Pin(ca) != pin {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: roots, CurrentTime: now, DNSName: pki.ServerName,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fmt.Errorf("transport: the server's certificate under the pinned CA: %w", err)
		}
		_, _, err = pki.Identity(cs)
		return err
	}
	return fmt.Errorf("%w: %s is not in its chain", ErrPinMismatch, pin)
}
