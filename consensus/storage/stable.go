package storage

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// stableStore holds term and vote, sealed, in the log's backend.
//
//	version 1 byte, nonce 12 bytes random, AES-256-GCM of the value, tag
//
// Additional data: version, store ID, key name. Elections and feature flags
// write a few values each: 2^32 random nonces are out of reach.
type stableStore struct {
	path  string
	low   Backend
	dog   *watchdog
	aead  cipher.AEAD
	store [16]byte
	rand  io.Reader
}

var _ raft.StableStore = (*stableStore)(nil)

const (
	stableVersion = 1
	// maxStable bounds one value; raft's are an ID and two numbers.
	maxStable = 64 << 10
)

func (s *stableStore) aad(key []byte) []byte {
	ad := append([]byte{stableVersion}, s.store[:]...)
	return append(ad, key...)
}

// Set returns when the value is on the disk.
func (s *stableStore) Set(key, val []byte) error {
	if len(val) > maxStable {
		return fmt.Errorf("stable key %s: %d bytes, at most %d: %w", key, len(val), maxStable, ErrTooLarge)
	}
	buf := make([]byte, 1+nonceSize, 1+nonceSize+len(val)+tagSize)
	buf[0] = stableVersion
	if _, err := io.ReadFull(s.rand, buf[1:]); err != nil {
		return fmt.Errorf("stable key %s: draw a nonce: %w", key, err)
	}
	buf = s.aead.Seal(buf, buf[1:], val, s.aad(key))
	return s.dog.do("store "+string(key), func() error { return s.low.Set(key, buf) })
}

// Get answers ErrKeyNotFound, unwrapped, for a key that was never set.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if err := s.dog.err(); err != nil {
		return nil, err
	}
	where := "key " + string(key)
	b, err := s.low.Get(key)
	if err != nil {
		if err.Error() == ErrKeyNotFound.Error() {
			return nil, ErrKeyNotFound
		}
		return nil, s.damaged(where, err)
	}
	if len(b) < 1+nonceSize+tagSize {
		return nil, s.damaged(where, errShort)
	}
	if b[0] != stableVersion {
		return nil, s.damaged(where, fmt.Errorf("%w %d", ErrFormat, b[0]))
	}
	val, err := s.aead.Open(nil, b[1:1+nonceSize], b[1+nonceSize:], s.aad(key))
	if err != nil {
		return nil, s.damaged(where, err)
	}
	return val, nil
}

func (s *stableStore) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, s.damaged("key "+string(key), errors.New("not a number"))
	}
	return binary.BigEndian.Uint64(b), nil
}

func (s *stableStore) damaged(where string, err error) error {
	return s.dog.fail(&DamageError{File: s.path, Where: where, Err: err})
}
