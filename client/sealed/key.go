package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Errors of this package.
var (
	ErrFormat    = errors.New("not a sealed file")
	ErrSecret    = errors.New("wrong passphrase or key, or a damaged header")
	ErrDamaged   = errors.New("the sealed file is damaged")
	ErrTruncated = errors.New("the sealed file is cut off")
	ErrKind      = errors.New("the file was sealed with the other kind of secret")
	ErrBadKey    = errors.New("not a key")
)

const (
	magic      = "HFSEAL1\n"
	saltBytes  = 32
	plainBytes = len(magic) + 1 + 4 + 4 + 1 + saltBytes + 4
	// HeaderBytes is the length of a file's header.
	HeaderBytes = plainBytes + tagBytes
	tagBytes    = 16
	// ChunkBytes is how much of the text one chunk seals.
	ChunkBytes = 64 << 10

	// The costs for new files: RFC 9106's second recommendation, 64 MiB and 3
	// passes, which a small machine still affords.
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	// Bounds for files to open: a hostile header must not take all memory.
	maxTime    = 32
	maxMemory  = 1 << 20 // KiB: 1 GiB
	maxThreads = 64

	keyPrefix = "hfkey_"
	keyBytes  = 32
)

// Kind says what a file is sealed with.
type Kind uint8

// The kinds. The numbers are part of the format.
const (
	Passphrase Kind = 1
	RandomKey  Kind = 2
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Passphrase:
		return "passphrase"
	case RandomKey:
		return "key"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Secret opens and seals files. Make it with FromPassphrase or ParseKey.
type Secret struct {
	kind  Kind
	bytes []byte
}

// MinPassphrase is the least length of a passphrase, in bytes.
const MinPassphrase = 12

// FromPassphrase makes a secret of a person's words.
func FromPassphrase(s string) (Secret, error) {
	if len(s) < MinPassphrase {
		return Secret{}, fmt.Errorf("passphrase of %d bytes: want at least %d", len(s), MinPassphrase)
	}
	return Secret{Passphrase, []byte(s)}, nil
}

// NewKey draws a random key in its text form, "hfkey_" and 43 characters.
func NewKey() string {
	b := make([]byte, keyBytes)
	_, _ = rand.Read(b) // never fails
	return keyPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseKey makes a secret of a key's text form.
func ParseKey(s string) (Secret, error) {
	h, ok := strings.CutPrefix(s, keyPrefix)
	b, err := base64.RawURLEncoding.Strict().DecodeString(h)
	if !ok || err != nil || len(b) != keyBytes {
		return Secret{}, fmt.Errorf("%w: want %s and 43 characters", ErrBadKey, keyPrefix)
	}
	return Secret{RandomKey, b}, nil
}

// Header is what a file says about itself in clear.
type Header struct {
	Kind    Kind
	Time    uint32 // argon2id passes
	Memory  uint32 // argon2id memory, KiB
	Threads uint8
	salt    [saltBytes]byte
}

func (h *Header) encode() []byte {
	b := append([]byte(magic), byte(h.Kind))
	b = binary.BigEndian.AppendUint32(b, h.Time)
	b = binary.BigEndian.AppendUint32(b, h.Memory)
	b = append(b, h.Threads)
	b = append(b, h.salt[:]...)
	return append(b, 0, 0, 0, 0)
}

// ParseHeader reads the first HeaderBytes of a file. It proves nothing: only
// opening the file does.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) < HeaderBytes || string(b[:len(magic)]) != magic {
		return nil, ErrFormat
	}
	h := &Header{Kind: Kind(b[8]), Time: binary.BigEndian.Uint32(b[9:]), Memory: binary.BigEndian.Uint32(b[13:]), Threads: b[17]}
	copy(h.salt[:], b[18:])
	if binary.BigEndian.Uint32(b[50:]) != 0 {
		return nil, fmt.Errorf("%w: its reserved bytes are in use: a newer release wrote it", ErrFormat)
	}
	switch h.Kind {
	case RandomKey:
		if h.Time|h.Memory|uint32(h.Threads) != 0 {
			return nil, fmt.Errorf("%w: costs beside a random key", ErrFormat)
		}
	case Passphrase:
		if h.Time < 1 || h.Time > maxTime || h.Memory < 8 || h.Memory > maxMemory || h.Threads < 1 || h.Threads > maxThreads {
			return nil, fmt.Errorf("%w: costs of %d passes, %d KiB, %d threads are out of bounds", ErrFormat, h.Time, h.Memory, h.Threads)
		}
	default:
		return nil, fmt.Errorf("%w: unknown %v", ErrFormat, h.Kind)
	}
	return h, nil
}

// aead derives the file key.
func (h *Header) aead(s Secret) (cipher.AEAD, error) {
	if s.kind != h.Kind {
		return nil, fmt.Errorf("%w: it wants a %v", ErrKind, h.Kind)
	}
	secret := s.bytes
	if h.Kind == Passphrase {
		secret = argon2.IDKey(secret, h.salt[:], h.Time, h.Memory, h.Threads, keyBytes)
	}
	key, err := hkdf.Key(sha256.New, secret, h.salt[:], "holdfast sealed file v1", keyBytes)
	if err != nil {
		return nil, fmt.Errorf("derive the file key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive the file key: %w", err)
	}
	return cipher.NewGCM(block)
}

// nonce is the chunk's number and whether it is the last. Number 0 is the
// header's check.
func nonce(number uint64, last bool) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:11], number)
	if last {
		n[11] = 1
	}
	return n
}
