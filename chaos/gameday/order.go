package gameday

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// MaxTTL is how long an order is good for at most.
const MaxTTL = 10 * time.Minute

// Action is what an order asks for.
type Action string

// The actions.
const (
	Pause Action = "pause" // SIGSTOP until the heal
	Kill  Action = "kill"  // SIGKILL; the service manager starts it again
	Renew Action = "renew" // the tester is still there
	Halt  Action = "halt"  // heal now
)

// Order is what a tester asks of one node's guardian.
type Order struct {
	Cluster string        `json:"cluster"`
	Node    string        `json:"node"` // its ID
	Action  Action        `json:"action"`
	For     time.Duration `json:"for_ns,omitempty"` // of a fault
	Nonce   string        `json:"nonce"`
	Issued  time.Time     `json:"issued"`
	Expires time.Time     `json:"expires"`
}

// Signed is an order as it travels: the very bytes that were signed.
type Signed struct {
	Order     []byte `json:"order"`
	Signature []byte `json:"signature"`
}

// signingContext keeps a signature from meaning anything elsewhere.
const signingContext = "holdfast chaos order v1\n"

// Sign makes an order that is good for ttl.
func Sign(key ed25519.PrivateKey, o Order, now time.Time, ttl time.Duration) (*Signed, error) {
	o.Nonce, o.Issued, o.Expires = rand.Text(), now.UTC(), now.Add(ttl).UTC()
	b, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return &Signed{Order: b, Signature: ed25519.Sign(key, append([]byte(signingContext), b...))}, nil
}

// open checks the signature, before anything in the order is looked at, and
// then what can be checked without memory: whom it is for, and since when.
func (s *Signed) open(key ed25519.PublicKey, cluster, node string, now time.Time) (*Order, error) {
	if !ed25519.Verify(key, append([]byte(signingContext), s.Order...), s.Signature) {
		return nil, errors.New("it is not signed by the chaos key of this guardian")
	}
	var o Order
	if err := json.Unmarshal(s.Order, &o); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	switch {
	case o.Cluster != cluster:
		return nil, fmt.Errorf("it is for cluster %q, this is %q", o.Cluster, cluster)
	case o.Node != node:
		return nil, fmt.Errorf("it is for node %q, this is %q", o.Node, node)
	case o.Nonce == "":
		return nil, errors.New("it has no nonce")
	case o.Expires.Sub(o.Issued) > MaxTTL:
		return nil, fmt.Errorf("it is good for %s, at most %s are allowed", o.Expires.Sub(o.Issued), MaxTTL)
	case now.After(o.Expires):
		return nil, fmt.Errorf("it was good until %s", o.Expires.Format(time.RFC3339))
	case o.Issued.After(now.Add(clockSlack)):
		return nil, fmt.Errorf("it was issued at %s, which is yet to come: compare the clocks", o.Issued.Format(time.RFC3339))
	}
	switch o.Action {
	case Pause, Kill:
		if o.For <= 0 || o.For > MaxTTL {
			return nil, fmt.Errorf("it would last %s; more than nothing and at most %s are allowed", o.For, MaxTTL)
		}
	case Renew, Halt:
	default:
		return nil, fmt.Errorf("action %q is unknown", o.Action)
	}
	return &o, nil
}

// clockSlack is by how much the tester's clock may be ahead.
const clockSlack = 5 * time.Second

// publicPrefix begins a public chaos key in text.
const publicPrefix = "chaos-key:"

// NewKey writes a new chaos key to a file that must not be there yet, and
// returns its public half for the guardians.
func NewKey(path string) (public string, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the chaos key: %w", err)
	}
	_, err = fmt.Fprintln(f, base64.RawURLEncoding.EncodeToString(key.Seed()))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write the chaos key: %w", err)
	}
	return publicPrefix + base64.RawURLEncoding.EncodeToString(pub), nil
}

// ReadKey reads a chaos key. A file that others may read is refused.
func ReadKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the chaos key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read the chaos key: others may read %s; chmod 600 it", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the chaos key: %w", err)
	}
	seed, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("read the chaos key: %s holds none", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParsePublic reads the public half.
func ParsePublic(s string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), publicPrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is no public chaos key, which begins with %s", s, publicPrefix)
	}
	return b, nil
}
