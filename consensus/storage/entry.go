package storage

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/s2"
)

// A sealed entry, as it lies in the backend:
//
//	version   1 byte   (1)
//	generation 16 bytes salt of the subkey
//	nonce     12 bytes random
//	AES-256-GCM of:
//	  flags   1 byte   1: data is s2, 2: has a time, 4: has extensions
//	  time    12 bytes seconds and nanoseconds (UTC), if flagged
//	  extlen  uvarint, then the extensions, if flagged
//	  length  uvarint of the data as raft gave it
//	  data    raw or s2
//	tag       16 bytes
//
// Additional data: version, store ID, index, term, type.
//
// NIST SP 800-38D allows 2^32 messages under one key with random nonces. A
// node that runs for years on one key would pass that, so the key of an entry
// is HKDF(log key, generation), a generation is drawn at each open, and again
// after maxPerGeneration entries: the chance of one repeated nonce is then
// below 2^-41 per generation, and 128-bit generations do not repeat.
const (
	entryVersion = 1
	genSize      = 16
	nonceSize    = 12
	tagSize      = 16
	entryHeader  = 1 + genSize + nonceSize

	maxPerGeneration = 1 << 28

	flagS2   = 1
	flagTime = 2
	flagExt  = 4
	flagAll  = flagS2 | flagTime | flagExt

	// compressFrom: under it s2 saves little and costs a pass over the data.
	compressFrom = 1 << 10
	// maxEntry bounds data plus extensions of one entry, on write and (against
	// decompression bombs and damaged lengths) on read. Group commit bounds
	// its entries at 512 KiB; the rest is room for raft's own.
	maxEntry = 16 << 20
	// maxGenerations bounds the cache of subkeys: one per open of this store
	// that still has entries in the log.
	maxGenerations = 64
)

type genID [genSize]byte

// codec seals and opens entries. Safe for concurrent use.
type codec struct {
	key   []byte // subkey "log"
	store [16]byte
	rand  io.Reader

	mu   sync.Mutex
	gens map[genID]cipher.AEAD
	cur  genID
	aead cipher.AEAD
	used uint64
}

func newCodec(key []byte, store [16]byte, random io.Reader) *codec {
	return &codec{key: key, store: store, rand: random, gens: map[genID]cipher.AEAD{}}
}

func (c *codec) generation(g genID) (cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.gens[g]; ok {
		return a, nil
	}
	a, err := newGCM(deriveKey(c.key, g[:], labelLog))
	if err != nil {
		return nil, err
	}
	if len(c.gens) >= maxGenerations {
		clear(c.gens)
	}
	c.gens[g] = a
	return a, nil
}

func (c *codec) current() (genID, cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aead == nil || c.used >= maxPerGeneration {
		var g genID
		if _, err := io.ReadFull(c.rand, g[:]); err != nil {
			return g, nil, fmt.Errorf("draw a key generation: %w", err)
		}
		a, err := newGCM(deriveKey(c.key, g[:], labelLog))
		if err != nil {
			return g, nil, err
		}
		c.cur, c.aead, c.used = g, a, 0
	}
	c.used++
	return c.cur, c.aead, nil
}

func (c *codec) aad(dst []byte, l *raft.Log) []byte {
	dst = append(dst, entryVersion)
	dst = append(dst, c.store[:]...)
	dst = binary.BigEndian.AppendUint64(dst, l.Index)
	dst = binary.BigEndian.AppendUint64(dst, l.Term)
	return append(dst, byte(l.Type))
}

// sealedSize bounds what seal appends for l.
func sealedSize(l *raft.Log) int {
	n := len(l.Data)
	if n >= compressFrom {
		n = max(n, s2.MaxEncodedLen(n))
	}
	return entryHeader + 1 + 12 + 2*binary.MaxVarintLen64 + len(l.Extensions) + n + tagSize
}

// seal appends the sealed form of l to dst, encrypting in place: with room of
// sealedSize in dst nothing is allocated and the data is copied once.
func (c *codec) seal(dst []byte, l *raft.Log) ([]byte, error) {
	if len(l.Data) > maxEntry || len(l.Extensions) > maxEntry-len(l.Data) {
		return dst, fmt.Errorf("entry %d: %d bytes, at most %d: %w", l.Index, len(l.Data)+len(l.Extensions), maxEntry, ErrTooLarge)
	}
	g, aead, err := c.current()
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, entryVersion)
	dst = append(dst, g[:]...)
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(c.rand, nonce[:]); err != nil {
		return dst[:start], fmt.Errorf("draw a nonce: %w", err)
	}
	dst = append(dst, nonce[:]...)
	body := len(dst)
	dst = append(dst, 0)
	var flags byte
	if !l.AppendedAt.IsZero() {
		flags |= flagTime
		dst = binary.BigEndian.AppendUint64(dst, uint64(l.AppendedAt.Unix()))
		dst = binary.BigEndian.AppendUint32(dst, uint32(l.AppendedAt.Nanosecond()))
	}
	if len(l.Extensions) > 0 {
		flags |= flagExt
		dst = binary.AppendUvarint(dst, uint64(len(l.Extensions)))
		dst = append(dst, l.Extensions...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(l.Data)))
	dst, packed := appendData(dst, l.Data)
	if packed {
		flags |= flagS2
	}
	dst[body] = flags
	var ad [64]byte
	return aead.Seal(dst[:body], nonce[:], dst[body:], c.aad(ad[:0], l)), nil
}

// appendData appends data, as s2 where that is shorter.
func appendData(dst, data []byte) ([]byte, bool) {
	if len(data) >= compressFrom {
		if room := dst[len(dst):cap(dst)]; len(room) >= s2.MaxEncodedLen(len(data)) {
			if enc := s2.Encode(room[:cap(room):cap(room)], data); len(enc) < len(data) {
				return dst[:len(dst)+len(enc)], true
			}
		}
	}
	return append(dst, data...), false
}

var errShort = errors.New("shorter than its format allows")

// open authenticates sealed, which it may overwrite, and fills out's data,
// extensions and time. Index, term and type of out are what the backend
// claims; they are proven by the additional data.
func (c *codec) open(sealed []byte, out *raft.Log) error {
	if len(sealed) < entryHeader+2+tagSize {
		return errShort
	}
	if sealed[0] != entryVersion {
		return fmt.Errorf("%w %d", ErrFormat, sealed[0])
	}
	aead, err := c.generation(genID(sealed[1 : 1+genSize]))
	if err != nil {
		return err
	}
	var ad [64]byte
	nonce := sealed[1+genSize : entryHeader]
	plain, err := aead.Open(sealed[entryHeader:entryHeader], nonce, sealed[entryHeader:], c.aad(ad[:0], out))
	if err != nil {
		return err
	}
	return decodeEntry(plain, out)
}

// decodeEntry parses the authenticated plaintext. It still checks every
// length: the key may be older than the code that reads.
func decodeEntry(b []byte, out *raft.Log) error {
	if len(b) == 0 {
		return errShort
	}
	flags := b[0]
	b = b[1:]
	if flags&^flagAll != 0 {
		return fmt.Errorf("%w: entry flags %#x", ErrFormat, flags)
	}
	out.AppendedAt, out.Extensions, out.Data = time.Time{}, nil, nil
	if flags&flagTime != 0 {
		if len(b) < 12 {
			return errShort
		}
		nsec := binary.BigEndian.Uint32(b[8:])
		if nsec >= 1e9 {
			return errors.New("time out of range")
		}
		out.AppendedAt = time.Unix(int64(binary.BigEndian.Uint64(b)), int64(nsec)).UTC()
		b = b[12:]
	}
	if flags&flagExt != 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return errShort
		}
		out.Extensions = b[k : k+int(n) : k+int(n)]
		b = b[k+int(n):]
	}
	n, k := binary.Uvarint(b)
	if k <= 0 || n > maxEntry {
		return errors.New("length out of range")
	}
	b = b[k:]
	if flags&flagS2 != 0 {
		if d, err := s2.DecodedLen(b); err != nil || uint64(d) != n {
			return errors.New("compressed length does not match")
		}
		d, err := s2.Decode(nil, b)
		if err != nil {
			return err
		}
		b = d
	}
	if uint64(len(b)) != n {
		return errors.New("length does not match")
	}
	if n > 0 {
		out.Data = b
	}
	return nil
}
