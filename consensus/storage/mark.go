package storage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// tailMark remembers the last index beside the log.
//
// Authentication proves each entry that is there; it cannot miss one that is
// not. bbolt falls back to the transaction before the last when its newest meta
// page is damaged, and a flipped element count hides a page's end: either way
// acknowledged entries would silently be gone, and this node would vote as if
// it never had them. So every append is followed by a 48-byte write of the new
// last index to a file of its own, without fsync. After a crash of the process
// the mark is exact, after a loss of power it is at most too low; it is synced
// only where it falls. A mark above the log is a lost tail.
//
//	version 8 bytes, last index 8 bytes, HMAC-SHA-256 (subkey "mark", store ID)
type tailMark struct {
	f     *os.File
	key   []byte
	store [16]byte
}

const (
	markVersion = 1
	markSize    = 16 + sha256.Size
)

var errNoMark = errors.New("no readable tail mark")

func openMark(path string, key []byte, store [16]byte) (*tailMark, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	return &tailMark{f: f, key: key, store: store}, nil
}

func (m *tailMark) sum(dst, b []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(m.store[:])
	h.Write(b)
	return h.Sum(dst)
}

// last returns the marked index, or errNoMark where the file is new or torn
// (it is never synced in the common case, so that is no damage).
func (m *tailMark) last() (uint64, error) {
	var b [markSize]byte
	if _, err := m.f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return 0, errNoMark
	} else if err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint64(b[:]) != markVersion || !hmac.Equal(b[16:], m.sum(nil, b[:16])) {
		return 0, errNoMark
	}
	return binary.BigEndian.Uint64(b[8:]), nil
}

// raise is called after the log is durable up to last.
func (m *tailMark) raise(last uint64) error {
	var b [markSize]byte
	binary.BigEndian.PutUint64(b[:], markVersion)
	binary.BigEndian.PutUint64(b[8:], last)
	m.sum(b[:16], b[:16])
	_, err := m.f.WriteAt(b[:], 0)
	return err
}

// lower is called, and durable, before entries above last are deleted.
func (m *tailMark) lower(last uint64) error {
	return errors.Join(m.raise(last), m.f.Sync())
}

func (m *tailMark) close() error { return errors.Join(m.f.Sync(), m.f.Close()) }
