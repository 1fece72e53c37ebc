package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"fmt"
)

const (
	// nodeIDChars is the length of a node ID. 26 base32 characters carry 130
	// bits: finding a second key for a given ID costs 2^130 tries, and the ID
	// still fits into a DNS label, a file name and a line of a table.
	nodeIDChars = 26

	// resetSecretBytes is the size quic-go wants for a stateless reset key.
	resetSecretBytes = 32
)

// idEncoding is lower-case base32 (RFC 4648 alphabet) without padding: safe in
// URLs, host names and case-insensitive file systems.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKey makes a private key for a node or a CA.
//
// ECDSA P-256 rather than Ed25519: the same leaf serves the HTTP API, and
// browsers and several TLS stacks refuse Ed25519 certificates.
func NewKey() (crypto.Signer, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: make a key: %w", err)
	}
	return k, nil
}

// NodeID returns the ID of the node that owns pub: the first 26 characters of
// the lower-case base32 of the SHA-256 of the key's SubjectPublicKeyInfo.
func NodeID(pub crypto.PublicKey) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("pki: fingerprint of a %T: %w", pub, err)
	}
	return fingerprint(spki), nil
}

func fingerprint(spki []byte) string {
	sum := sha256.Sum256(spki)
	return idEncoding.EncodeToString(sum[:])[:nodeIDChars]
}

// ValidNodeID tells whether s has the shape of a node ID.
func ValidNodeID(s string) bool {
	if len(s) != nodeIDChars {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// ResetSecret derives the secret for QUIC stateless resets from a node's key:
// 32 bytes, the same after every restart of the node, so that the peers of a
// crashed node learn of its return with their next packet.
func ResetSecret(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: derive the reset secret from a %T: %w", key, err)
	}
	return hkdf.Key(sha256.New, der, nil, "holdfast stateless reset v1", resetSecretBytes)
}

// allowedKey limits keys to the two kinds that are cheap to verify, so that a
// signing request cannot make every handshake pay for an 8,192-bit RSA key.
func allowedKey(pub crypto.PublicKey) bool {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return true
	}
	return false
}
