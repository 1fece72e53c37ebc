package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	pemKey  = "PRIVATE KEY"
	pemCert = "CERTIFICATE"
)

// ErrBadPEM reports text that does not hold the PEM block that was expected.
var ErrBadPEM = errors.New("pki: not the expected PEM block")

// EncodeKey returns key as PKCS #8 PEM. The result is a secret.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pki: encode a %T: %w", key, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

// DecodeKey reads what EncodeKey wrote.
func DecodeKey(text []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != pemKey {
		return nil, fmt.Errorf("%w: want %q", ErrBadPEM, pemKey)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: decode a private key: %w", err)
	}
	s, ok := k.(crypto.Signer)
	if !ok || !allowedKey(s.Public()) {
		return nil, fmt.Errorf("pki: decode a private key: %T is neither ECDSA P-256 nor Ed25519", k)
	}
	return s, nil
}

// EncodeCerts returns DER certificates as one PEM text, in the order given.
func EncodeCerts(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCert, Bytes: der})...)
	}
	return out
}

// DecodeCerts reads every certificate of a PEM text; at least one.
func DecodeCerts(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var b *pem.Block
		b, text = pem.Decode(text)
		if b == nil {
			break
		}
		if b.Type != pemCert {
			return nil, fmt.Errorf("%w: want %q, found %q", ErrBadPEM, pemCert, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("pki: decode a certificate: %w", err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: want %q", ErrBadPEM, pemCert)
	}
	return out, nil
}
