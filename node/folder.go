package node

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"holdfast/transport/pki"
)

// folder is a node's data folder: where each file of the node itself lies.
// The log's files belong to consensus/storage.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }
func (f folder) nodeKey() string         { return f.path("node.key") }
func (f folder) nodeCert() string        { return f.path("node.crt") }
func (f folder) caCert() string          { return f.path("ca.crt") }
func (f folder) storeKey() string        { return f.path("store.key") }
func (f folder) config() string          { return f.path("config.yaml") }
func (f folder) peers() string           { return f.path("peers.json") }
func (f folder) outputs() string         { return f.path("outputs") }
func (f folder) audit() string           { return f.path("audit") }
func (f folder) socket() string          { return f.path("holdfast.sock") }

// ErrNotInitialised is a data folder that holds no node yet.
var ErrNotInitialised = errors.New("the data folder holds no node: run holdfast init for a new cluster, or holdfast join for an existing one")

// ErrAlreadyInitialised is a data folder that holds a node already.
var ErrAlreadyInitialised = errors.New("the data folder holds a node already; choose another folder, or remove this one if that node is gone for good")

// initialised reports whether a node was made here.
func (f folder) initialised() bool {
	_, err := os.Stat(f.nodeCert())
	return err == nil
}

// make creates the folder for a new node.
func (f folder) make() error {
	if f.initialised() {
		return fmt.Errorf("%s: %w", f, ErrAlreadyInitialised)
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	// A folder that was there may be open to others.
	if err := os.Chmod(string(f), 0o700); err != nil {
		return fmt.Errorf("close the data folder to others: %w", err)
	}
	return nil
}

// credentials are who this node is among the others.
type credentials struct {
	key       crypto.Signer
	nodeID    string
	clusterID string
	ca        *x509.Certificate
	cert      *tls.Certificate
}

func (c *credentials) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.ca)
	return p
}

// loadOrMakeKey gives this node's key. One may be there from a join that was
// cut short.
func (f folder) loadOrMakeKey() (crypto.Signer, error) {
	if text, err := os.ReadFile(f.nodeKey()); err == nil {
		if err := ownerOnly(f.nodeKey()); err != nil {
			return nil, err
		}
		return pki.DecodeKey(text)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the node's key: %w", err)
	}
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePrivate(f.nodeKey(), text)
}

// saveCertificates stores what the CA gave. The node's certificate comes last:
// it marks the folder as complete.
func (f folder) saveCertificates(ca *x509.Certificate, leafDER []byte) error {
	if err := writePrivate(f.caCert(), pki.EncodeCerts(ca.Raw)); err != nil {
		return err
	}
	return writePrivate(f.nodeCert(), pki.EncodeCerts(leafDER))
}

// credentials reads who this node is, and checks that the parts fit together.
func (f folder) credentials() (*credentials, error) {
	keyText, err := os.ReadFile(f.nodeKey())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", f, ErrNotInitialised)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's key: %w", err)
	}
	if err := ownerOnly(f.nodeKey()); err != nil {
		return nil, err
	}
	key, err := pki.DecodeKey(keyText)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.nodeKey(), err)
	}
	ca, err := readCert(f.caCert())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", f, ErrNotInitialised)
	}
	if err != nil {
		return nil, err
	}
	leaf, err := readCert(f.nodeCert())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", f, ErrNotInitialised)
	}
	if err != nil {
		return nil, err
	}
	return assemble(key, ca, leaf)
}

func assemble(key crypto.Signer, ca, leaf *x509.Certificate) (*credentials, error) {
	clusterID, nodeID, err := pki.CertIdentity(leaf)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	if own, err := pki.NodeID(key.Public()); err != nil || own != nodeID {
		return nil, fmt.Errorf("the node's certificate names node %s, but its key is %s's: %w", nodeID, own, err)
	}
	cert, err := pki.TLSCertificate(leaf.Raw, key, ca)
	if err != nil {
		return nil, err
	}
	return &credentials{key: key, nodeID: nodeID, clusterID: clusterID, ca: ca, cert: cert}, nil
}

func readCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	certs, err := pki.DecodeCerts(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs[0], nil
}

// saveConfig keeps what a node was told when it was made, so that starting it
// needs the folder alone. A file that is there is its owner's.
func (f folder) saveConfig(c Config) error {
	d := Defaults()
	told := map[string]any{"listen": c.Listen}
	keep := func(key string, value any, isDefault bool) {
		if !isDefault {
			told[key] = value
		}
	}
	keep("name", c.Name, c.Name == d.Name)
	keep("advertise", c.Advertise, c.Advertise == "")
	keep("labels", c.Labels, len(c.Labels) == 0)
	keep("peers", c.Peers, len(c.Peers) == 0)
	keep("cpu_millis", c.CPUMillis, c.CPUMillis == 0)
	keep("memory_bytes", c.MemoryBytes, c.MemoryBytes == 0)
	text, err := yaml.Marshal(told)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(f.config(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	_, err = file.Write(append([]byte("# Made with the node; see holdfast config validate.\n"), text...))
	return errors.Join(err, file.Close())
}

// peerAddrs is the address book for the next start: node ID to host:port.
type peerAddrs map[string]string

func (f folder) readPeers() (peerAddrs, error) {
	b, err := os.ReadFile(f.peers())
	if errors.Is(err, fs.ErrNotExist) {
		return peerAddrs{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the address book: %w", err)
	}
	p := peerAddrs{}
	if err := json.Unmarshal(b, &p); err != nil {
		// A hint only: the raft configuration and the configured peers remain.
		return peerAddrs{}, fmt.Errorf("address book %s: %w", f.peers(), err)
	}
	return p, nil
}

func (f folder) savePeers(p peerAddrs) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(f.peers(), append(b, '\n'))
}

// ownerOnly refuses a secret that others may read.
func ownerOnly(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so others may read it; it may be known to them: chmod 600 it, and replace it if this host has other users", path, m)
	}
	return nil
}

// writePrivate replaces a file so that a crash leaves the old or the new one.
func writePrivate(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
