package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// KeySize is the length of every key in bytes (AES-256, HMAC-SHA-256).
const KeySize = 32

// Key is the root secret of one data folder. Nothing is encrypted with it
// directly; every use has a subkey of its own.
type Key struct{ b [KeySize]byte }

// NewKey copies b, which must hold KeySize bytes.
func NewKey(b []byte) (Key, error) {
	var k Key
	if len(b) != KeySize {
		return k, fmt.Errorf("store key: got %d bytes, want %d", len(b), KeySize)
	}
	copy(k.b[:], b)
	if k == (Key{}) {
		return k, errors.New("store key: all zero; was it loaded?")
	}
	return k, nil
}

// String keeps the key out of logs and error messages.
func (Key) String() string { return "storage.Key(hidden)" }

// GoString keeps it out of %#v, too.
func (k Key) GoString() string { return k.String() }

// Labels of subkeys. A label, once used, is never given another meaning.
const (
	labelLog      = "holdfast/log/v1"
	labelStable   = "holdfast/stable/v1"
	labelMark     = "holdfast/mark/v1"
	labelIdentity = "holdfast/identity/v1"
	labelSnapshot = "holdfast/snapshot/v1"
	labelStream   = "holdfast/stream/v1"
	// LabelOutputs is for the outputs of tasks on a worker's disk.
	LabelOutputs = "holdfast/outputs/v1"
)

// Subkey returns the 32-byte key for label: HKDF-SHA-256, no salt.
func (k Key) Subkey(label string) []byte { return deriveKey(k.b[:], nil, label) }

// deriveKey cannot fail: HKDF only refuses outputs over 255 hashes and, in FIPS
// mode, secrets under 14 bytes; all of ours are 32.
func deriveKey(secret, salt []byte, info string) []byte {
	out, err := hkdf.Key(sha256.New, secret, salt, info, KeySize)
	if err != nil {
		panic("storage: HKDF refused fixed sizes: " + err.Error())
	}
	return out
}

// newGCM cannot fail for a 32-byte key, which deriveKey gives.
func newGCM(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}
