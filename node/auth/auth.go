package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/fsm"
)

// The ways in which a request is not authenticated.
var (
	ErrMissing = errors.New("no credential: send the header Authorization: Bearer and a token, or use the unix socket of the data folder")
	ErrUnknown = errors.New("the token is not known, was revoked, or its secret is wrong")
	ErrExpired = error(expiredError{})
	ErrTooMany = errors.New("too many failed authentications from this address")
	// ErrCannotTell is no failure of the caller's and not counted as one.
	ErrCannotTell = errors.New("this node cannot tell yet whether the token is known")
)

type expiredError struct{}

func (expiredError) Error() string { return "the token has expired: ask an admin for a new one" }

// Expired tells an expired token from an unknown one without naming this
// package.
func (expiredError) Expired() bool { return true }

// TooManyError is ErrTooMany with the time to wait.
type TooManyError struct{ Wait time.Duration }

func (e *TooManyError) Error() string { return ErrTooMany.Error() }

// Unwrap gives ErrTooMany.
func (e *TooManyError) Unwrap() error { return ErrTooMany }

// RetryAfter is how long the source should wait.
func (e *TooManyError) RetryAfter() time.Duration { return e.Wait }

// Token is what the state knows of a token.
type Token struct {
	Role    fsm.Role
	Hash    [32]byte // SHA-256 of the secret
	Expires int64    // Unix ns, 0 = never
}

// Config is what an Authenticator needs.
type Config struct {
	// Lookup finds a token by ID in the node's own state.
	Lookup func(id string) (Token, bool)
	// Refresh, if set, brings that state up to date, or fails. A token that
	// is not known is looked up again after it: this node may have just
	// started, or be a moment behind the one that made the token.
	Refresh func(context.Context) error
	// StateNow is the time of the state's last command, Unix ns. A token is
	// expired once either clock says so: a node whose own clock stands still
	// must not keep an expired token alive.
	StateNow func() int64
	Now      func() time.Time
	// OwnerUID owns the data folder; it and root are admins on the unix socket.
	OwnerUID uint32
}

// Authenticator checks credentials.
type Authenticator struct {
	cfg     Config
	sources *sources
}

// New makes an Authenticator.
func New(cfg Config) *Authenticator {
	return &Authenticator{cfg: cfg, sources: newSources()}
}

// Authenticate gives a request's principal and role. Errors wrap ErrMissing,
// ErrMalformed, ErrUnknown, ErrExpired or, as a *TooManyError, ErrTooMany;
// or ErrCannotTell with Refresh's reason.
func (a *Authenticator) Authenticate(r *http.Request) (principal string, role fsm.Role, err error) {
	principal, role, err = a.check(r)
	if err == nil || errors.Is(err, ErrCannotTell) {
		return principal, role, err
	}
	if ok, wait := a.sources.fail(r.RemoteAddr, a.cfg.Now()); !ok {
		return "", 0, &TooManyError{Wait: wait}
	}
	return "", 0, err
}

func (a *Authenticator) check(r *http.Request) (string, fsm.Role, error) {
	headers := r.Header["Authorization"]
	switch len(headers) {
	case 0:
		return a.peer(r)
	case 1:
	default:
		return "", 0, fmt.Errorf("%w: more than one Authorization header", ErrMalformed)
	}
	scheme, text, ok := strings.Cut(headers[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", 0, fmt.Errorf("%w: want the header Authorization: Bearer and a token", ErrMalformed)
	}
	id, secret, err := ParseToken(text)
	if err != nil {
		return "", 0, err
	}
	token, known := a.cfg.Lookup(id)
	// Who has used up its failures makes no work for the leader.
	if !known && a.cfg.Refresh != nil && a.sources.mayFail(r.RemoteAddr, a.cfg.Now()) {
		if err := a.cfg.Refresh(r.Context()); err != nil {
			return "", 0, fmt.Errorf("%w: %w", ErrCannotTell, err)
		}
		token, known = a.cfg.Lookup(id)
	}
	// An unknown ID is compared too, with a hash that nothing has.
	hash := secret.Hash()
	same := subtle.ConstantTimeCompare(hash[:], token.Hash[:]) == 1
	switch {
	case !same || !known:
		return "", 0, ErrUnknown
	case token.Expires != 0 && max(a.cfg.StateNow(), a.cfg.Now().UnixNano()) >= token.Expires:
		return "", 0, ErrExpired
	}
	return "token:" + id, token.Role, nil
}

func (a *Authenticator) peer(r *http.Request) (string, fsm.Role, error) {
	uid, ok := peerUID(r.Context())
	if !ok {
		return "", 0, ErrMissing
	}
	if uid != 0 && uid != a.cfg.OwnerUID {
		return "", 0, fmt.Errorf("%w: user %d is neither root nor the owner of the data folder; present a token", ErrUnknown, uid)
	}
	return "local:" + strconv.FormatUint(uint64(uid), 10), fsm.RoleAdmin, nil
}
