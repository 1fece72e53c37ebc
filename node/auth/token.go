package auth

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The lengths of a token's parts, in letters of lower-case base32.
const (
	IDLen        = 10 // 50 bits: enough to be unique, short enough to type
	secretBytes  = 32
	secretLen    = 52
	prefix       = "hf_"
	tokenLen     = len(prefix) + IDLen + 1 + secretLen
	lettersInUse = "abcdefghijklmnopqrstuvwxyz234567"
)

// letters has no upper case and nothing that a double click does not select.
var letters = base32.NewEncoding(lettersInUse).WithPadding(base32.NoPadding)

// ErrMalformed says that a text is no token at all.
var ErrMalformed = errors.New("not a token")

// Secret is what a token's holder knows and the cluster does not store.
type Secret [secretBytes]byte

// Hash is what the cluster stores of it.
func (s Secret) Hash() [32]byte { return sha256.Sum256(s[:]) }

// NewToken makes the ID and the secret of a token, of randomness from r.
func NewToken(r io.Reader) (id string, secret Secret, err error) {
	var raw [7]byte
	if _, err := io.ReadFull(r, raw[:]); err != nil {
		return "", secret, fmt.Errorf("read randomness for a token: %w", err)
	}
	if _, err := io.ReadFull(r, secret[:]); err != nil {
		return "", secret, fmt.Errorf("read randomness for a token: %w", err)
	}
	return letters.EncodeToString(raw[:])[:IDLen], secret, nil
}

// FormatToken gives the text that a client presents.
func FormatToken(id string, secret Secret) string {
	return prefix + id + "_" + letters.EncodeToString(secret[:])
}

// ParseToken reads the text that a client presents. Its errors wrap
// ErrMalformed and repeat nothing of the text.
func ParseToken(s string) (id string, secret Secret, err error) {
	switch {
	case strings.HasPrefix(s, joinPrefix):
		return "", secret, fmt.Errorf("%w for the API: it is a join token, for holdfast join", ErrMalformed)
	case !strings.HasPrefix(s, prefix):
		return "", secret, fmt.Errorf("%w: want one that starts with %s", ErrMalformed, prefix)
	case len(s) != tokenLen || s[len(prefix)+IDLen] != '_':
		return "", secret, fmt.Errorf("%w: want %d letters, got %d; was it cut?", ErrMalformed, tokenLen, len(s))
	}
	id = s[len(prefix) : len(prefix)+IDLen]
	if strings.Trim(id, lettersInUse) != "" {
		return "", secret, fmt.Errorf("%w: its ID has letters that no token has", ErrMalformed)
	}
	if err := decodeExact(secret[:], s[len(prefix)+IDLen+1:]); err != nil {
		return "", secret, fmt.Errorf("%w: its secret has letters that no token has", ErrMalformed)
	}
	return id, secret, nil
}

// decodeExact fills dst and accepts the one spelling of it only: base32 has
// bits to spare in the last letter, and ignores line ends.
func decodeExact(dst []byte, s string) error {
	if len(s) != letters.EncodedLen(len(dst)) || strings.Trim(s, lettersInUse) != "" {
		return ErrMalformed
	}
	if n, err := letters.Decode(dst, []byte(s)); err != nil || n != len(dst) {
		return ErrMalformed
	}
	if letters.EncodeToString(dst) != s {
		return ErrMalformed
	}
	return nil
}
