package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

const (
	joinPrefix   = "hfj_"
	joinVersion  = 1
	checksumLen  = 4
	maxJoinAddrs = 16
	maxAddrLen   = 255                              // a DNS name and a port
	maxJoinLen   = 8 * maxJoinAddrs * maxAddrLen    // letters, before any decoding
	joinFixedLen = 1 + IDLen + secretBytes + 32 + 1 // version, ID, secret, pin, number of addresses
)

// The ways in which a text is no join token. Both wrap ErrMalformed.
var (
	ErrMistyped = fmt.Errorf("%w: its checksum does not match, so that it was mistyped or cut; copy it whole", ErrMalformed)
	ErrVersion  = fmt.Errorf("%w of a kind that this version knows; use the version that made it", ErrMalformed)
)

// JoinToken is what a new node needs to join: where, proof that it may, and
// the one thing to trust.
type JoinToken struct {
	ID     string   // of the token, ten letters
	Secret Secret   //
	CAPin  [32]byte // SHA-256 of the cluster CA's public key
	Addrs  []string // host:port of nodes to try, at most 16
}

// Encode gives the text form: "hfj_" and base32 of the version, the fields and
// a checksum.
func (t JoinToken) Encode() (string, error) {
	if len(t.ID) != IDLen || strings.Trim(t.ID, lettersInUse) != "" {
		return "", fmt.Errorf("encode a join token: %q is no token ID", t.ID)
	}
	if len(t.Addrs) > maxJoinAddrs {
		return "", fmt.Errorf("encode a join token: %d addresses, at most %d fit", len(t.Addrs), maxJoinAddrs)
	}
	b := make([]byte, 0, joinFixedLen+64)
	b = append(b, joinVersion)
	b = append(b, t.ID...)
	b = append(b, t.Secret[:]...)
	b = append(b, t.CAPin[:]...)
	b = append(b, byte(len(t.Addrs)))
	for _, a := range t.Addrs {
		if a == "" || len(a) > maxAddrLen {
			return "", fmt.Errorf("encode a join token: address %q: want 1 to %d bytes", a, maxAddrLen)
		}
		b = append(b, byte(len(a)))
		b = append(b, a...)
	}
	sum := sha256.Sum256(b)
	return joinPrefix + letters.EncodeToString(append(b, sum[:checksumLen]...)), nil
}

// ParseJoinToken reads the text form; space around it is ignored. Its errors
// wrap ErrMalformed and repeat nothing of the text.
func ParseJoinToken(s string) (JoinToken, error) {
	var t JoinToken
	body, ok := strings.CutPrefix(strings.TrimSpace(s), joinPrefix)
	switch {
	case !ok && strings.HasPrefix(s, prefix):
		return t, fmt.Errorf("%w for joining: it is a token of the API; make one with --role node", ErrMalformed)
	case !ok:
		return t, fmt.Errorf("%w for joining: want one that starts with %s", ErrMalformed, joinPrefix)
	case len(body) > maxJoinLen:
		return t, fmt.Errorf("%w: it is longer than any join token", ErrMalformed)
	}
	raw := make([]byte, letters.DecodedLen(len(body)))
	if err := decodeExact(raw, body); err != nil || len(raw) < checksumLen {
		return t, ErrMistyped
	}
	b, have := raw[:len(raw)-checksumLen], raw[len(raw)-checksumLen:]
	if want := sha256.Sum256(b); !bytes.Equal(want[:checksumLen], have) {
		return t, ErrMistyped
	}
	if len(b) == 0 || b[0] != joinVersion {
		return t, ErrVersion
	}
	if err := t.fill(b); err != nil {
		return JoinToken{}, err
	}
	return t, nil
}

var errShape = errors.New("its parts do not fit together")

func (t *JoinToken) fill(b []byte) error {
	if len(b) < joinFixedLen {
		return fmt.Errorf("%w: %w", ErrMalformed, errShape)
	}
	t.ID, b = string(b[1:1+IDLen]), b[1+IDLen:]
	b = b[copy(t.Secret[:], b):]
	b = b[copy(t.CAPin[:], b):]
	n, b := int(b[0]), b[1:]
	if strings.Trim(t.ID, lettersInUse) != "" || n > maxJoinAddrs {
		return fmt.Errorf("%w: %w", ErrMalformed, errShape)
	}
	for range n {
		if len(b) == 0 || b[0] == 0 || len(b) < 1+int(b[0]) {
			return fmt.Errorf("%w: %w", ErrMalformed, errShape)
		}
		t.Addrs, b = append(t.Addrs, string(b[1:1+b[0]])), b[1+b[0]:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %w", ErrMalformed, errShape)
	}
	return nil
}
