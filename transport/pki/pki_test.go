package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("blue", day, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func csrOf(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	csr, err := NewCSR(k)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignNode(t *testing.T) {
	ca, key := newCA(t), newKey(t)
	der, err := ca.SignNode(csrOf(t, key), SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour,
		DNSNames: []string{"api.example", ServerName}, IPs: []net.IP{net.IPv4(10, 0, 0, 7)}})
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, der)
	id, err := NodeID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.URIs[0].String(); len(c.URIs) != 1 || got != "spiffe://blue/node/"+id {
		t.Errorf("URIs %v", c.URIs)
	}
	for _, name := range []string{ServerName, "api.example", "10.0.0.7"} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if len(c.DNSNames) != 2 {
		t.Errorf("DNS names %v: the server name must not appear twice", c.DNSNames)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := c.Verify(x509.VerifyOptions{Roots: ca.Pool(), CurrentTime: day, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: ca.Pool(), CurrentTime: day.Add(2 * time.Hour)}); err == nil {
		t.Error("an expired certificate verified")
	}
	cluster, node, err := Identity(tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}})
	if err != nil || cluster != "blue" || node != id {
		t.Errorf("identity %q %q %v", cluster, node, err)
	}
}

// guards P6: the signer, not the request, decides what a certificate says.
func TestSignNodeIgnoresNamesInTheRequest(t *testing.T) {
	ca, key := newCA(t), newKey(t)
	other := &url.URL{Scheme: "spiffe", Host: "blue", Path: "/node/aaaaaaaaaaaaaaaaaaaaaaaaaa"}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "root"}, DNSNames: []string{"evil.example"},
		IPAddresses: []net.IP{net.IPv4(1, 1, 1, 1)}, URIs: []*url.URL{other},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignNode(csr, SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, der)
	id, _ := NodeID(key.Public())
	if c.IsCA || c.Subject.CommonName != id || len(c.DNSNames) != 1 || len(c.IPAddresses) != 0 || len(c.URIs) != 1 ||
		c.URIs[0].String() != "spiffe://blue/node/"+id {
		t.Errorf("names came from the request: %v %v %v %v", c.Subject, c.DNSNames, c.IPAddresses, c.URIs)
	}
}

func TestSignNodeRefuses(t *testing.T) {
	ca := newCA(t)
	good := csrOf(t, newKey(t))
	forged := append([]byte(nil), good...)
	forged[len(forged)-1] ^= 1
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ok := SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour}
	for name, tc := range map[string]struct {
		csr  []byte
		req  SignRequest
		want error
	}{
		"not a request":   {[]byte("hello"), ok, ErrBadRequest},
		"empty":           {nil, ok, ErrBadRequest},
		"bad signature":   {forged, ok, ErrBadRequest},
		"RSA":             {csrOf(t, rsaKey), ok, ErrBadRequest},
		"P-384":           {csrOf(t, p384), ok, ErrBadRequest},
		"no lifetime":     {good, SignRequest{ClusterID: "blue", Now: day}, ErrBadRequest},
		"too many names":  {good, SignRequest{ClusterID: "blue", Now: day, TTL: 1, DNSNames: make([]string, maxSANs+1)}, ErrBadRequest},
		"no cluster":      {good, SignRequest{Now: day, TTL: time.Hour}, ErrBadCluster},
		"cluster is path": {good, SignRequest{ClusterID: "blue/node/x", Now: day, TTL: time.Hour}, ErrBadCluster},
	} {
		if _, err := ca.SignNode(tc.csr, tc.req); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestEd25519KeysAreSigned(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := newCA(t).SignNode(csrOf(t, key), SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, id, err := CertIdentity(parse(t, der)); err != nil || !ValidNodeID(id) {
		t.Fatal(id, err)
	}
}

// guards P6: a certificate must name exactly one node, and that of its key.
func TestIdentityRefuses(t *testing.T) {
	ca, key := newCA(t), newKey(t)
	id, _ := NodeID(key.Public())
	otherID, _ := NodeID(newKey(t).Public())
	u := func(s string) *url.URL {
		v, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	good := "spiffe://blue/node/" + id
	for name, uris := range map[string][]*url.URL{
		"none":           nil,
		"two":            {u(good), u(good)},
		"other key":      {u("spiffe://blue/node/" + otherID)},
		"wrong scheme":   {u("https://blue/node/" + id)},
		"wrong role":     {u("spiffe://blue/worker/" + id)},
		"no role":        {u("spiffe://blue/" + id)},
		"deeper path":    {u(good + "/x")},
		"query":          {u(good + "?a=b")},
		"fragment":       {u(good + "#a")},
		"port":           {u("spiffe://blue:1/node/" + id)},
		"user":           {u("spiffe://me@blue/node/" + id)},
		"no cluster":     {u("spiffe:///node/" + id)},
		"upper case":     {u("spiffe://BLUE/node/" + id)},
		"short node":     {u("spiffe://blue/node/" + id[:25])},
		"escaped":        {u("spiffe://blue/node%2F" + id)},
		"opaque":         {u("spiffe:blue/node/" + id)},
		"traversal":      {u("spiffe://blue/node/../node/" + id)},
		"trailing slash": {u(good + "/")},
	} {
		tpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: day, NotAfter: day.Add(time.Hour), URIs: uris}
		der, err := x509.CreateCertificate(rand.Reader, tpl, ca.cert, key.Public(), ca.key)
		if err != nil {
			continue // crypto/x509 itself refuses to write it
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		if _, _, err := CertIdentity(c); !errors.Is(err, ErrBadIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := Identity(tls.ConnectionState{}); !errors.Is(err, ErrNoCertificate) {
		t.Error(err)
	}
}

func TestRoundTrips(t *testing.T) {
	ca := newCA(t)
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	back, err := LoadCA(ca.CertPEM(), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if back.Pin() != ca.Pin() || !ValidPin(ca.Pin()) {
		t.Errorf("pin %q, then %q", ca.Pin(), back.Pin())
	}
	other, _ := EncodeKey(newKey(t))
	if _, err := LoadCA(ca.CertPEM(), other); err == nil {
		t.Error("a CA loaded with another one's key")
	}
	if _, err := LoadCA(keyPEM, ca.CertPEM()); !errors.Is(err, ErrBadPEM) {
		t.Error(err)
	}
	for _, s := range []string{"", "sha256:", "sha256:zz", ca.Pin()[7:], "md5:" + ca.Pin()[7:]} {
		if ValidPin(s) {
			t.Errorf("%q passes for a pin", s)
		}
	}
}

func TestLoadCARefusesALeaf(t *testing.T) {
	ca, key := newCA(t), newKey(t)
	der, err := ca.SignNode(csrOf(t, key), SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, _ := EncodeKey(key)
	if _, err := LoadCA(EncodeCerts(der), keyPEM); !errors.Is(err, ErrNotCA) {
		t.Error(err)
	}
	if _, err := TLSCertificate(der, newKey(t), ca.Cert()); err == nil {
		t.Error("a certificate was joined with another node's key")
	}
}

func TestResetSecretSurvivesRestart(t *testing.T) {
	key := newKey(t)
	text, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeKey(text)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ResetSecret(key)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := ResetSecret(again)
	c, _ := ResetSecret(newKey(t))
	if string(a) != string(b) || string(a) == string(c) || len(a) != 32 {
		t.Errorf("secrets %x %x %x", a, b, c)
	}
}

func FuzzSignNode(f *testing.F) {
	ca, err := NewCA("blue", day, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	key, _ := NewKey()
	csr, _ := NewCSR(key)
	f.Add(csr)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, csr []byte) {
		der, err := ca.SignNode(csr, SignRequest{ClusterID: "blue", Now: day, TTL: time.Hour})
		if err != nil {
			return
		}
		if _, _, err := CertIdentity(parse(t, der)); err != nil {
			t.Fatal(err)
		}
	})
}
