package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"
)

func TestCertificatesServeLoopback(t *testing.T) {
	c, err := makeCerts(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "127.0.0.1", KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Error(err)
		}
	}
}

func TestRoles(t *testing.T) {
	member := func(endpoint, id, leader string) string {
		return `{"Endpoint":"` + endpoint + `","Status":{"header":{"member_id":` + id + `},"leader":` + leader + `}}`
	}
	for _, c := range []struct{ name, out, leader, follower, err string }{
		// IDs beyond 2^53, as they are: a float would confuse them.
		{"elected", "[" + member("a", "18249187646912138824", "9223372036854775809") + "," + member("b", "9223372036854775809", "9223372036854775809") + "]", "b", "a", ""},
		{"no leader", "[" + member("a", "1", "0") + "]", "", "", "knows no leader"},
		{"nobody", "[]", "", "", "no leader"},
		{"no JSON", "context deadline exceeded", "", "", "answer"},
	} {
		leader, follower, err := roles([]byte(c.out))
		if leader != c.leader || follower != c.follower || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %q, %v", c.name, leader, follower, err)
		}
	}
}
