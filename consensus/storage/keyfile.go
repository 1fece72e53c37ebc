package storage

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/crypto/argon2"
)

// A key file is one line of text:
//
//	holdfast-key 1 plain <key> <check>
//	holdfast-key 1 argon2id <t> <m KiB> <p> <salt> <nonce> <sealed key>
//
// Binary fields are lower-case hex. check is the first 8 bytes of the key's
// SHA-256: a damaged file shall be called that, and not open as another key.
// The sealed form authenticates the words before it as additional data.
const (
	keyMagic   = "holdfast-key 1 "
	maxKeyFile = 1 << 10

	// RFC 9106's second recommended option (64 MiB), for machines with less
	// memory: a node must be able to start beside its tasks.
	argonTime, argonMemory, argonThreads = 3, 64 << 10, 4
	// A file may not ask for more than this (CPU, memory): it is read before
	// it is authenticated.
	argonMaxTime, argonMaxMemory = 16, 1 << 20
	argonSalt                    = 16
)

// LoadOrCreateKey reads the key file at path, or makes one with 32 random
// bytes, mode 0600. A passphrase wraps the key (argon2id); with one, a plain
// file is refused, and without one, a wrapped file is (ErrPassphrase). Other
// errors: ErrPermissions, ErrDamaged, ErrFormat.
func LoadOrCreateKey(path string, passphrase []byte) (Key, error) {
	k, err := LoadKey(path, passphrase)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if _, err := io.ReadFull(rand.Reader, k.b[:]); err != nil {
		return Key{}, fmt.Errorf("draw a store key: %w", err)
	}
	line, err := encodeKey(k, passphrase, rand.Reader)
	if err != nil {
		return Key{}, err
	}
	if err := writeFile(path, line, true); errors.Is(err, fs.ErrExist) {
		return LoadKey(path, passphrase) // another process was faster
	} else if err != nil {
		return Key{}, fmt.Errorf("write the store key %s: %w", path, err)
	}
	return k, nil
}

// LoadKey reads an existing key file; fs.ErrNotExist where there is none.
func LoadKey(path string, passphrase []byte) (Key, error) {
	b, err := readSmall(path, maxKeyFile)
	if err != nil {
		return Key{}, fmt.Errorf("read the store key: %w", err)
	}
	if err := checkPrivate(path); err != nil {
		return Key{}, err
	}
	k, err := decodeKey(b, passphrase)
	switch {
	case errors.Is(err, ErrPassphrase), errors.Is(err, ErrFormat):
		return Key{}, fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return Key{}, &DamageError{File: path, Where: "store key", Err: err}
	}
	return k, nil
}

func encodeKey(k Key, passphrase []byte, random io.Reader) ([]byte, error) {
	if len(passphrase) == 0 {
		sum := sha256.Sum256(k.b[:])
		return fmt.Appendf(nil, "%splain %x %x\n", keyMagic, k.b, sum[:8]), nil
	}
	var r [argonSalt + nonceSize]byte
	if _, err := io.ReadFull(random, r[:]); err != nil {
		return nil, fmt.Errorf("draw a salt: %w", err)
	}
	salt, nonce := r[:argonSalt], r[argonSalt:]
	head := fmt.Appendf(nil, "%sargon2id %d %d %d %x %x ", keyMagic, argonTime, argonMemory, argonThreads, salt, nonce)
	aead, err := newGCM(argon2.IDKey(passphrase, salt, argonTime, argonMemory, argonThreads, KeySize))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(head, "%x\n", aead.Seal(nil, nonce, k.b[:], head)), nil
}

var errKeyFile = errors.New("not a key file")

func decodeKey(b, passphrase []byte) (Key, error) {
	if !bytes.HasPrefix(b, []byte("holdfast-key ")) || b[len(b)-1] != '\n' {
		return Key{}, errKeyFile
	}
	if !bytes.HasPrefix(b, []byte(keyMagic)) {
		return Key{}, ErrFormat
	}
	f := bytes.Split(b[len(keyMagic):len(b)-1], []byte(" "))
	switch {
	case string(f[0]) == "plain" && len(f) == 3:
		raw, err1 := unhex(f[1], KeySize)
		check, err2 := unhex(f[2], 8)
		if err := errors.Join(err1, err2); err != nil {
			return Key{}, err
		}
		if sum := sha256.Sum256(raw); !bytes.Equal(sum[:8], check) {
			return Key{}, errors.New("the check does not match")
		}
		if len(passphrase) > 0 {
			return Key{}, fmt.Errorf("%w: the key is not wrapped, start without a passphrase", ErrPassphrase)
		}
		return NewKey(raw)
	case string(f[0]) == "argon2id" && len(f) == 7:
		return unwrapKey(b, f[1:], passphrase)
	}
	return Key{}, errKeyFile
}

func unwrapKey(line []byte, f [][]byte, passphrase []byte) (Key, error) {
	var t, m uint32
	var p uint8
	params := fmt.Sprintf("%s %s %s", f[0], f[1], f[2])
	if _, err := fmt.Sscanf(params, "%d %d %d", &t, &m, &p); err != nil || params != fmt.Sprintf("%d %d %d", t, m, p) ||
		t == 0 || t > argonMaxTime || m < 8 || m > argonMaxMemory || p == 0 {
		return Key{}, errors.New("argon2id parameters out of range")
	}
	salt, err1 := unhex(f[3], argonSalt)
	nonce, err2 := unhex(f[4], nonceSize)
	sealed, err3 := unhex(f[5], KeySize+tagSize)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Key{}, err
	}
	if len(passphrase) == 0 {
		return Key{}, fmt.Errorf("%w: the key is wrapped", ErrPassphrase)
	}
	aead, err := newGCM(argon2.IDKey(passphrase, salt, t, m, p, KeySize))
	if err != nil {
		return Key{}, err
	}
	raw, err := aead.Open(nil, nonce, sealed, line[:len(line)-1-len(f[5])])
	if err != nil {
		return Key{}, fmt.Errorf("%w (or the file is damaged)", ErrPassphrase)
	}
	return NewKey(raw)
}

// unhex takes lower case alone: two spellings of one key file would be one
// changed byte that nobody notices.
func unhex(s []byte, n int) ([]byte, error) {
	b, err := hex.DecodeString(string(s))
	if err != nil || len(b) != n || hex.EncodeToString(b) != string(s) {
		return nil, errKeyFile
	}
	return b, nil
}
