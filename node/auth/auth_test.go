package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/fsm"
)

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func testAuthenticator(tokens map[string]Token) (*Authenticator, *clock) {
	c := &clock{time.Unix(1000, 0)}
	return New(Config{
		Lookup:   func(id string) (Token, bool) { tok, ok := tokens[id]; return tok, ok },
		StateNow: func() int64 { return time.Unix(900, 0).UnixNano() },
		Now:      c.now, OwnerUID: 1000,
	}), c
}

func request(addr string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = addr
	for _, h := range headers {
		r.Header.Add("Authorization", h)
	}
	return r
}

// guards P8
func TestAuthenticate(t *testing.T) {
	secret := Secret{42}
	text := FormatToken("aaaaaaaaaa", secret)
	tokens := map[string]Token{
		"aaaaaaaaaa": {Role: fsm.RoleOperator, Hash: secret.Hash()},
		"bbbbbbbbbb": {Role: fsm.RoleAdmin, Hash: secret.Hash(), Expires: time.Unix(1001, 0).UnixNano()},
		"cccccccccc": {Role: fsm.RoleAdmin, Hash: secret.Hash(), Expires: time.Unix(1000, 0).UnixNano()},
		"dddddddddd": {Role: fsm.RoleAdmin, Hash: secret.Hash(), Expires: time.Unix(900, 0).UnixNano()},
		"eeeeeeeeee": {Role: fsm.RoleAdmin}, // a hash that no secret has
	}
	a, _ := testAuthenticator(tokens)
	for _, c := range []struct {
		name    string
		headers []string
		who     string
		role    fsm.Role
		err     error
	}{
		{"valid", []string{"Bearer " + text}, "token:aaaaaaaaaa", fsm.RoleOperator, nil},
		{"scheme in lower case", []string{"bearer " + text}, "token:aaaaaaaaaa", fsm.RoleOperator, nil},
		{"not yet expired", []string{"Bearer " + FormatToken("bbbbbbbbbb", secret)}, "token:bbbbbbbbbb", fsm.RoleAdmin, nil},
		{"expired by the node's clock", []string{"Bearer " + FormatToken("cccccccccc", secret)}, "", 0, ErrExpired},
		{"expired by both clocks", []string{"Bearer " + FormatToken("dddddddddd", secret)}, "", 0, ErrExpired},
		{"expired, with a wrong secret", []string{"Bearer " + FormatToken("dddddddddd", Secret{1})}, "", 0, ErrUnknown},
		{"wrong secret", []string{"Bearer " + FormatToken("aaaaaaaaaa", Secret{1})}, "", 0, ErrUnknown},
		{"unknown", []string{"Bearer " + FormatToken("zzzzzzzzzz", secret)}, "", 0, ErrUnknown},
		{"hash of zeros", []string{"Bearer " + FormatToken("eeeeeeeeee", Secret{})}, "", 0, ErrUnknown},
		{"none", nil, "", 0, ErrMissing},
		{"empty", []string{""}, "", 0, ErrMalformed},
		{"two headers", []string{"Bearer " + text, "Bearer " + text}, "", 0, ErrMalformed},
		{"another scheme", []string{"Basic " + text}, "", 0, ErrMalformed},
		{"no scheme", []string{text}, "", 0, ErrMalformed},
		{"two spaces", []string{"Bearer  " + text}, "", 0, ErrMalformed},
		{"join token", []string{"Bearer hfj_abc"}, "", 0, ErrMalformed},
	} {
		who, role, err := a.Authenticate(request("10.0.0.1:99", c.headers...))
		if who != c.who || role != c.role || !errors.Is(err, c.err) {
			t.Errorf("%s: got %q %d %v", c.name, who, role, err)
		}
		if errors.Is(c.err, ErrExpired) {
			var e interface{ Expired() bool }
			if !errors.As(err, &e) || !e.Expired() {
				t.Errorf("%s: the API cannot tell that it expired", c.name)
			}
		}
	}
	delete(tokens, "aaaaaaaaaa")
	if _, _, err := a.Authenticate(request("10.0.0.1:99", "Bearer "+text)); !errors.Is(err, ErrUnknown) {
		t.Errorf("revoked: %v", err)
	}
}

func TestStateClockExpires(t *testing.T) {
	secret := Secret{1}
	a := New(Config{
		Lookup:   func(string) (Token, bool) { return Token{Role: fsm.RoleAdmin, Hash: secret.Hash(), Expires: 50}, true },
		StateNow: func() int64 { return 50 }, Now: func() time.Time { return time.Unix(0, 1) },
	})
	if _, _, err := a.Authenticate(request("1.2.3.4:5", "Bearer "+FormatToken("aaaaaaaaaa", secret))); !errors.Is(err, ErrExpired) {
		t.Errorf("a node with a slow clock accepts an expired token: %v", err)
	}
}

func TestFailuresAreLimited(t *testing.T) {
	secret := Secret{1}
	good := "Bearer " + FormatToken("aaaaaaaaaa", secret)
	a, c := testAuthenticator(map[string]Token{"aaaaaaaaaa": {Role: fsm.RoleViewer, Hash: secret.Hash()}})
	fail := func(addr string) error {
		_, _, err := a.Authenticate(request(addr, "Bearer nonsense"))
		return err
	}
	for i := range failureBurst {
		if err := fail(fmt.Sprintf("10.0.0.1:%d", i+1)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	err := fail("10.0.0.1:1")
	var many *TooManyError
	if !errors.As(err, &many) || !errors.Is(err, ErrTooMany) || many.RetryAfter() <= 0 || many.RetryAfter() > time.Second {
		t.Fatalf("beyond the burst: %v", err)
	}
	if _, _, err := a.Authenticate(request("10.0.0.1:1", good)); err != nil {
		t.Errorf("a valid token behind the same address: %v", err)
	}
	if err := fail("10.0.0.2:1"); !errors.Is(err, ErrMalformed) {
		t.Errorf("another address: %v", err)
	}
	c.at = c.at.Add(many.RetryAfter())
	if err := fail("10.0.0.1:1"); !errors.Is(err, ErrMalformed) {
		t.Errorf("after the wait: %v", err)
	}
	// Addresses of one IPv6 host are one source.
	for i := range failureBurst {
		_ = fail(fmt.Sprintf("[2001:db8::%x]:1", i+1))
	}
	if err := fail("[2001:db8::ffff:1]:1"); !errors.Is(err, ErrTooMany) {
		t.Errorf("another address of the same /64: %v", err)
	}
	if err := fail("[2001:db8:0:1::1]:1"); !errors.Is(err, ErrMalformed) {
		t.Errorf("another /64: %v", err)
	}
}

func TestSourcesAreBounded(t *testing.T) {
	s := newSources()
	now := time.Unix(1, 0)
	for i := range 3 * maxSources {
		s.fail(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), now)
	}
	if len(s.limits) > maxSources {
		t.Fatalf("%d sources are kept", len(s.limits))
	}
	if ok, _ := s.fail("11.0.0.1:1", now); ok {
		t.Error("a new source beyond the table is not limited")
	}
	later := now.Add(time.Hour)
	if ok, _ := s.fail("11.0.0.1:1", later); !ok || len(s.limits) > 10 {
		t.Errorf("sources of long ago are kept: %d", len(s.limits))
	}
}

// guards P8: the kernel says who is at the other end of the unix socket.
func TestUnixSocket(t *testing.T) {
	uid := uint32(os.Getuid())
	for _, c := range []struct {
		name  string
		owner uint32
		ok    bool
	}{{"owner", uid, true}, {"another", uid + 1, uid == 0}} {
		t.Run(c.name, func(t *testing.T) {
			a := New(Config{Lookup: func(string) (Token, bool) { return Token{}, false }, StateNow: func() int64 { return 0 }, Now: time.Now, OwnerUID: c.owner})
			type result struct {
				who  string
				role fsm.Role
				err  error
			}
			got := make(chan result, 2)
			srv := &http.Server{ConnContext: ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				who, role, err := a.Authenticate(r)
				got <- result{who, role, err}
			})}
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = srv.Serve(l) }()
			defer func() { srv.Close(); <-done }()
			tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
			defer tr.CloseIdleConnections()
			get := func(header string) result {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://s/", nil)
				if err != nil {
					t.Fatal(err)
				}
				if header != "" {
					req.Header.Set("Authorization", header)
				}
				resp, err := (&http.Client{Transport: tr}).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return <-got
			}
			r := get("")
			if c.ok && (r.err != nil || r.role != fsm.RoleAdmin || r.who != fmt.Sprintf("local:%d", uid)) || !c.ok && !errors.Is(r.err, ErrUnknown) {
				t.Errorf("got %+v", r)
			}
			if r := get("Bearer nonsense"); r.err == nil {
				t.Error("a bad token on the socket was passed over")
			}
		})
	}
}

// Every uid but root and the owner is refused, whoever runs the test.
func TestPeerUIDs(t *testing.T) {
	a, _ := testAuthenticator(nil)
	for uid, ok := range map[uint32]bool{0: true, 1000: true, 1001: false, 65534: false, 1<<32 - 1: false} {
		r := request("@")
		r = r.WithContext(context.WithValue(r.Context(), peerKey{}, uid))
		if _, role, err := a.Authenticate(r); (err == nil) != ok || ok != (role == fsm.RoleAdmin) {
			t.Errorf("uid %d: %d %v", uid, role, err)
		}
	}
}

func TestMinter(t *testing.T) {
	m := &Minter{Rand: zeros{}, CAPin: func() [32]byte { return [32]byte{7} }, Addrs: func() []string { return make20() }}
	id, hash, text, err := m.Mint(false)
	if err != nil {
		t.Fatal(err)
	}
	gotID, secret, err := ParseToken(text)
	if err != nil || gotID != id || secret.Hash() != hash {
		t.Errorf("%s %v", text, err)
	}
	id, hash, text, err = m.Mint(true)
	if err != nil {
		t.Fatal(err)
	}
	j, err := ParseJoinToken(text)
	if err != nil || j.ID != id || j.Secret.Hash() != hash || j.CAPin[0] != 7 || len(j.Addrs) != maxJoinAddrs {
		t.Errorf("%+v %v", j, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func make20() []string {
	var a []string
	for i := range 20 {
		a = append(a, fmt.Sprintf("10.0.0.%d:1", i))
	}
	return a
}
