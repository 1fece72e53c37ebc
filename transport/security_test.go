package transport_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/internal/transporttest"
	"holdfast/transport/pki"

	"github.com/quic-go/quic-go"
)

// stranger dials with any TLS configuration and tries to use the connection.
// It returns an error unless the server served it.
func stranger(t *testing.T, addr net.Addr, conf *tls.Config) error {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: pc}
	defer pc.Close()
	defer tr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), transporttest.Patience)
	defer cancel()
	q, err := tr.Dial(ctx, addr, conf, &quic.Config{MaxIdleTimeout: 2 * time.Second, KeepAlivePeriod: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	defer q.CloseWithError(0, "")
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte("x")); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "x" {
		return errors.Join(errors.New("not served"), err)
	}
	return nil
}

// leaf signs any template, as a CA that is careless or stolen might.
func leaf(t *testing.T, c *transporttest.Cluster, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	id, err := pki.NodeID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames: []string{pki.ServerName}, URIs: []*url.URL{{Scheme: "spiffe", Host: c.ID, Path: "/node/" + id}},
	}
	if change != nil {
		change(tpl)
	}
	keyPEM, err := c.CA.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	caKey, err := pki.DecodeKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, c.CA.Cert(), key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, c.CA.Cert().Raw}, PrivateKey: key}
}

// guards P6: whom the accepting side refuses.
func TestServerRefuses(t *testing.T) {
	c, other := transporttest.New(t, "blue"), transporttest.New(t, "blue")
	b := echoNode(t, c)
	key := transporttest.Key(t)
	otherID, _ := pki.NodeID(transporttest.Key(t).Public())
	revokedKey := transporttest.Key(t)
	revokedID, _ := pki.NodeID(revokedKey.Public())
	c.Revoke(revokedID)
	good := leaf(t, c, key, nil)
	conf := func(proto string, certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: c.CA.Pool(), ServerName: pki.ServerName, NextProtos: []string{proto}, Certificates: certs}
	}
	for _, class := range nodeClasses {
		if err := stranger(t, b.Addr(), conf(class.ALPN(), good)); err != nil {
			t.Fatalf("%s: a good certificate is refused: %v", class, err)
		}
	}
	for name, certs := range map[string][]tls.Certificate{
		"no certificate":  nil,
		"other CA":        {*other.Issue(t, key, time.Hour)},
		"revoked":         {*c.Issue(t, revokedKey, time.Hour)},
		"expired":         {*c.IssueAt(t, key, time.Now().Add(-48*time.Hour), time.Hour)},
		"not yet valid":   {*c.IssueAt(t, key, time.Now().Add(time.Hour), time.Hour)},
		"other cluster":   {leaf(t, c, key, func(x *x509.Certificate) { x.URIs[0].Host = "red" })},
		"other role":      {leaf(t, c, key, func(x *x509.Certificate) { x.URIs[0].Path = "/user/" + otherID })},
		"other node's ID": {leaf(t, c, key, func(x *x509.Certificate) { x.URIs[0].Path = "/node/" + otherID })},
		"no identity":     {leaf(t, c, key, func(x *x509.Certificate) { x.URIs = nil })},
		"two identities":  {leaf(t, c, key, func(x *x509.Certificate) { x.URIs = append(x.URIs, x.URIs[0]) })},
		"server only":     {leaf(t, c, key, func(x *x509.Certificate) { x.ExtKeyUsage = x.ExtKeyUsage[1:] })},
		"the CA itself":   {{Certificate: [][]byte{c.CA.Cert().Raw}, PrivateKey: caKey(t, c)}},
	} {
		for _, class := range nodeClasses {
			if err := stranger(t, b.Addr(), conf(class.ALPN(), certs...)); err == nil {
				t.Errorf("%s: %s is served", class, name)
			}
		}
	}
	if err := stranger(t, b.Addr(), conf("holdfast-none", good)); err == nil {
		t.Error("the protocol that is never offered is served")
	}
	if err := stranger(t, b.Addr(), conf("h2", good)); err == nil {
		t.Error("an unknown protocol is served")
	}
	// Classes without certificates.
	for _, class := range []transport.Class{transport.Client, transport.Join} {
		if err := stranger(t, b.Addr(), conf(class.ALPN())); err != nil {
			t.Errorf("%s: %v", class, err)
		}
	}
}

func caKey(t *testing.T, c *transporttest.Cluster) crypto.Signer {
	t.Helper()
	text, err := c.CA.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	k, err := pki.DecodeKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// guards P6: a class without certificates must not be a way into one with.
func TestOneProtocolPerHandshake(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := c.Node(t)
	raft := make(chan struct{}, 1)
	b.Handle(transport.Raft, func(context.Context, *transport.Conn) { raft <- struct{}{} })
	b.Handle(transport.Client, echo)
	b.Start(t)
	for _, protos := range [][]string{
		{transport.Client.ALPN(), transport.Raft.ALPN()},
		{transport.Raft.ALPN(), transport.Client.ALPN()},
	} {
		_ = stranger(t, b.Addr(), &tls.Config{RootCAs: c.CA.Pool(), ServerName: pki.ServerName, NextProtos: protos})
	}
	select {
	case <-raft:
		t.Error("class raft without a certificate")
	default:
	}
}

// guards P6: no older TLS (QUIC has none, but the configuration must say so
// by itself), no tickets.
func TestNoResumption(t *testing.T) {
	c := transporttest.New(t, "blue")
	b := echoNode(t, c)
	cache := &ticketCounter{}
	conf := &tls.Config{RootCAs: c.CA.Pool(), ServerName: pki.ServerName, NextProtos: []string{transport.Client.ALPN()}, ClientSessionCache: cache}
	for range 2 {
		if err := stranger(t, b.Addr(), conf); err != nil {
			t.Fatal(err)
		}
	}
	if cache.puts != 0 {
		t.Errorf("%d session tickets", cache.puts)
	}
	conf.MaxVersion = tls.VersionTLS12
	if err := stranger(t, b.Addr(), conf); err == nil {
		t.Error("TLS 1.2 is served")
	}
}

type ticketCounter struct{ puts int }

func (*ticketCounter) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketCounter) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.puts++
	}
}

// guards P6: whom the dialling side refuses.
func TestDiallerRefuses(t *testing.T) {
	c, other, red := transporttest.New(t, "blue"), transporttest.New(t, "blue"), transporttest.New(t, "red")
	a := c.Node(t)
	b, foreign := echoNode(t, c), echoNode(t, other)
	revoked := echoNode(t, c)
	c.Revoke(revoked.ID)
	// A node of another cluster whose CA we happen to trust.
	neighbour := red.Node(t)
	handleEcho(neighbour)
	neighbour.Start(t)
	both := func(cfg *transport.Config) {
		cfg.Roots = func() *x509.CertPool {
			p := c.CA.Pool()
			p.AddCert(red.CA.Cert())
			return p
		}
	}
	trusting := c.Node(t, both)
	for _, class := range append([]transport.Class{transport.Client}, nodeClasses...) {
		if _, err := a.Dial(t.Context(), b.Addr().String(), class, a.ID); !errors.Is(err, transport.ErrWrongNode) {
			t.Errorf("%s: another node than wanted: %v", class, err)
		}
		var unknown x509.UnknownAuthorityError
		if _, err := a.Dial(t.Context(), foreign.Addr().String(), class, foreign.ID); !errors.As(err, &unknown) {
			t.Errorf("%s: another CA: %v", class, err)
		}
		if _, err := a.Dial(t.Context(), revoked.Addr().String(), class, ""); !errors.Is(err, transport.ErrRevoked) {
			t.Errorf("%s: revoked: %v", class, err)
		}
		if _, err := trusting.Dial(t.Context(), neighbour.Addr().String(), class, ""); !errors.Is(err, transport.ErrWrongCluster) {
			t.Errorf("%s: another cluster: %v", class, err)
		}
	}
	// An expired server.
	old := echoNode(t, c)
	old.Cert.Set(c.IssueAt(t, old.Key, time.Now().Add(-48*time.Hour), time.Hour))
	var invalid x509.CertificateInvalidError
	if _, err := a.Dial(t.Context(), old.Addr().String(), transport.RPC, old.ID); !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("expired: %v", err)
	}
	// A failed dial leaves nothing behind: the right node is found.
	if _, err := a.Dial(t.Context(), b.Addr().String(), transport.RPC, b.ID); err != nil {
		t.Error(err)
	}
}

// A refusal by the server is the dial's error, not that of the first request.
func TestDialReportsTheServersRefusal(t *testing.T) {
	c, red := transporttest.New(t, "blue"), transporttest.New(t, "red")
	b := echoNode(t, c)
	stranger := red.Node(t, func(cfg *transport.Config) {
		cfg.ClusterID = c.ID
		cfg.Roots = func() *x509.CertPool { return c.CA.Pool() }
	})
	for _, class := range nodeClasses {
		var te *quic.TransportError
		if _, err := stranger.Dial(t.Context(), b.Addr().String(), class, b.ID); !errors.As(err, &te) || !te.Remote {
			t.Errorf("%s: %v", class, err)
		}
	}
}

// guards P6: a joiner trusts nothing but the pin.
func TestDialPinned(t *testing.T) {
	c, other := transporttest.New(t, "blue"), transporttest.New(t, "blue")
	b, foreign := echoNode(t, c), echoNode(t, other)
	// A joiner knows neither a cluster nor a certificate.
	joiner, err := transport.Listen(transport.Config{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer joiner.Close()
	conn, err := joiner.DialPinned(t.Context(), b.Addr().String(), transport.Join, c.CA.Pin())
	if err != nil {
		t.Fatal(err)
	}
	if conn.PeerClusterID() != "blue" || conn.PeerNodeID() != b.ID {
		t.Errorf("peer %s of %s", conn.PeerNodeID(), conn.PeerClusterID())
	}
	if err := ping(conn); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	if _, err := joiner.DialPinned(t.Context(), foreign.Addr().String(), transport.Join, c.CA.Pin()); !errors.Is(err, transport.ErrPinMismatch) {
		t.Errorf("another CA: %v", err)
	}
	if _, err := joiner.DialPinned(t.Context(), b.Addr().String(), transport.Raft, c.CA.Pin()); !errors.Is(err, transport.ErrBadClass) {
		t.Errorf("class raft by pin: %v", err)
	}
	if _, err := joiner.DialPinned(t.Context(), b.Addr().String(), transport.Join, "sha256:1234"); err == nil {
		t.Error("dialled by half a pin")
	}
	if _, err := joiner.Dial(t.Context(), b.Addr().String(), transport.RPC, ""); !errors.Is(err, transport.ErrNoRoots) {
		t.Errorf("a joiner dialled without roots: %v", err)
	}
	if err := joiner.Serve(); !errors.Is(err, transport.ErrNoIdentity) {
		t.Errorf("a joiner served: %v", err)
	}

	// The pinned CA in the chain of a leaf that it did not sign proves nothing.
	liar := echoNode(t, other)
	forged := *other.Issue(t, liar.Key, time.Hour)
	forged.Certificate = [][]byte{forged.Certificate[0], c.CA.Cert().Raw}
	liar.Cert.Set(&forged)
	var unknown x509.UnknownAuthorityError
	if _, err := joiner.DialPinned(t.Context(), liar.Addr().String(), transport.Join, c.CA.Pin()); !errors.As(err, &unknown) {
		t.Errorf("borrowed CA: %v", err)
	}
	// A server that does not send its CA cannot be pinned.
	bare := *c.Issue(t, b.Key, time.Hour)
	bare.Certificate = bare.Certificate[:1]
	b.Cert.Set(&bare)
	if _, err := joiner.DialPinned(t.Context(), b.Addr().String(), transport.Join, c.CA.Pin()); !errors.Is(err, transport.ErrPinMismatch) {
		t.Errorf("no CA in the chain: %v", err)
	}
}
