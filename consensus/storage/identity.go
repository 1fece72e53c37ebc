package storage

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Identity says to which node of which cluster a store belongs.
type Identity struct {
	Format    int       `json:"format"`
	StoreID   string    `json:"store_id"` // 16 random bytes, hex; part of every entry's additional data
	NodeID    string    `json:"node_id"`
	ClusterID string    `json:"cluster_id"`
	Created   time.Time `json:"created"`
}

// The identity file is three lines: a magic line, the JSON form above, and
// "mac " with the hex HMAC-SHA-256 (subkey "identity") of the two lines before.
const (
	identityFormat = 1
	identityMagic  = "holdfast store\n"
	// maxIdentity: two IDs and some framing; anything longer is not ours.
	maxIdentity = 16 << 10
)

func (id Identity) store() (s [16]byte, err error) {
	b, err := hex.DecodeString(id.StoreID)
	if err != nil || len(b) != len(s) {
		return s, errors.New("bad store ID")
	}
	return [16]byte(b), nil
}

func identityMAC(key Key, head []byte) []byte {
	h := hmac.New(sha256.New, key.Subkey(labelIdentity))
	h.Write(head)
	return fmt.Appendf(nil, "mac %x\n", h.Sum(nil))
}

func newIdentity(nodeID, clusterID string, now time.Time, random io.Reader) (Identity, error) {
	var s [16]byte
	if _, err := io.ReadFull(random, s[:]); err != nil {
		return Identity{}, fmt.Errorf("draw a store ID: %w", err)
	}
	return Identity{
		Format: identityFormat, StoreID: hex.EncodeToString(s[:]),
		NodeID: nodeID, ClusterID: clusterID, Created: now.UTC().Truncate(time.Second),
	}, nil
}

func (id Identity) encode(key Key) ([]byte, error) {
	body, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	head := append([]byte(identityMagic), body...)
	head = append(head, '\n')
	return append(head, identityMAC(key, head)...), nil
}

// decodeIdentity checks every byte: what does not authenticate is not parsed.
func decodeIdentity(b []byte, key Key) (id Identity, err error) {
	i := bytes.LastIndex(b, []byte("\nmac ")) + 1
	if !bytes.HasPrefix(b, []byte(identityMagic)) || i == 0 {
		return id, errors.New("not an identity file")
	}
	head, mac := b[:i], b[i:]
	if !hmac.Equal(mac, identityMAC(key, head)) {
		return id, errors.New("does not authenticate: changed, or not this folder's key")
	}
	if err := json.Unmarshal(head[len(identityMagic):], &id); err != nil {
		return id, err
	}
	if id.Format != identityFormat {
		return id, fmt.Errorf("%w %d, this release knows %d", ErrFormat, id.Format, identityFormat)
	}
	_, err = id.store()
	return id, err
}

// ReadIdentity returns the identity of the store in dir. It takes no lock and
// opens nothing else.
func ReadIdentity(dir string, key Key) (Identity, error) {
	path := filepath.Join(dir, identityFile)
	b, err := readSmall(path, maxIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("%s: %w: the identity file is missing", dir, ErrNoStore)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("read the store's identity: %w", err)
	}
	if err := checkPrivate(path); err != nil {
		return Identity{}, err
	}
	id, err := decodeIdentity(b, key)
	if errors.Is(err, ErrFormat) {
		return Identity{}, fmt.Errorf("%s: %w: run a newer release", path, err)
	}
	if err != nil {
		return Identity{}, &DamageError{File: path, Where: "identity", Err: err}
	}
	return id, nil
}

// claims compares with what the node expects; empty expectations match all.
func (id Identity) claims(nodeID, clusterID string) error {
	if (nodeID != "" && nodeID != id.NodeID) || (clusterID != "" && clusterID != id.ClusterID) {
		return fmt.Errorf("%w: it is node %s of cluster %s, expected node %s of cluster %s; point the node at its own folder",
			ErrIdentityMismatch, id.NodeID, id.ClusterID, nodeID, clusterID)
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
