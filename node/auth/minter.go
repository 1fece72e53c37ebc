package auth

import "io"

// Minter makes tokens for the API's users and for joining nodes.
type Minter struct {
	Rand  io.Reader
	CAPin func() [32]byte // SHA-256 of the cluster CA's public key
	Addrs func() []string // where new nodes find the cluster
}

// Mint makes a token: what the state stores of it, and the text that is shown
// once.
func (m *Minter) Mint(join bool) (id string, hash [32]byte, text string, err error) {
	id, secret, err := NewToken(m.Rand)
	if err != nil {
		return "", hash, "", err
	}
	if !join {
		return id, secret.Hash(), FormatToken(id, secret), nil
	}
	addrs := m.Addrs()
	text, err = JoinToken{ID: id, Secret: secret, CAPin: m.CAPin(), Addrs: addrs[:min(len(addrs), maxJoinAddrs)]}.Encode()
	if err != nil {
		return "", hash, "", err
	}
	return id, secret.Hash(), text, nil
}
