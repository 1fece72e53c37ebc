package storage

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// A sealed stream: authenticated encryption of a file of any length, read and
// written in pieces (the STREAM construction).
//
//	magic  8 bytes "HFSEAL" 0 1
//	salt  32 bytes random
//	chunk*:
//	  head   4 bytes big endian: bit 31 last chunk, else plaintext length 0..65536
//	  cipher length + 16 bytes AES-256-GCM
//
// Key: HKDF(key, salt, "holdfast/stream/v1" 0 label), so that nonces may count:
// chunk number (11 bytes, big endian), then 1 for the last chunk and 0 for all
// others. Additional data: the head and the plaintext offset of the chunk
// (8 bytes), so that a reader that skips chunks by their heads cannot be
// misled about where it is. Chunks cannot be changed, reordered, dropped,
// repeated or cut off at the end; a missing last chunk is ErrTruncated.
const (
	streamMagic  = "HFSEAL\x00\x01"
	streamSalt   = 32
	streamHeader = len(streamMagic) + streamSalt
	// ChunkSize is the most plaintext bytes in one chunk.
	ChunkSize = 64 << 10
	chunkHead = 4
	lastChunk = 1 << 31
)

type sealer struct {
	aead cipher.AEAD
}

func newSealer(key, salt []byte, label string) (sealer, error) {
	if len(key) != KeySize {
		return sealer{}, fmt.Errorf("sealed stream: key of %d bytes, want %d", len(key), KeySize)
	}
	a, err := newGCM(deriveKey(key, salt, labelStream+"\x00"+label))
	return sealer{a}, err
}

func (s sealer) nonce(chunk uint64, last bool) (n [nonceSize]byte) {
	binary.BigEndian.PutUint64(n[3:], chunk)
	if last {
		n[nonceSize-1] = 1
	}
	return n
}
