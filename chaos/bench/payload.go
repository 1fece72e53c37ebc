package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"holdfast/client"
)

// commandBytes is the size of one encoded task spec, and of one key with its
// value at the peer.
const commandBytes = 128

// payload makes specs that encode to commandBytes bytes. The name is random:
// entries are compressed, and equal ones would cost nothing.
type payload struct {
	encoded []byte
	at, n   int // the name in it
}

func newPayload() (*payload, error) {
	for n := 1; n <= commandBytes; n++ {
		name := strings.Repeat("#", n)
		encoded, err := client.EncodeSpec(client.TaskSpec{Command: []string{"/bin/true"}, Name: name})
		if err != nil {
			return nil, err
		}
		if len(encoded) == commandBytes {
			return &payload{encoded, bytes.Index(encoded, []byte(name)), n}, nil
		}
	}
	return nil, errors.New("no name makes a spec of the wanted size")
}

func (p *payload) name() ([]byte, error) {
	raw := make([]byte, (p.n+1)/2)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	return hex.AppendEncode(nil, raw)[:p.n], nil
}

// spec is a spec for HTTP.
func (p *payload) spec() (client.TaskSpec, error) {
	name, err := p.name()
	return client.TaskSpec{Command: []string{"/bin/true"}, Name: string(name)}, err
}

func (p *payload) specs(n int) ([]client.TaskSpec, error) {
	out := make([]client.TaskSpec, n)
	for i := range out {
		var err error
		if out[i], err = p.spec(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// encode is n specs for the pipelined RPC.
func (p *payload) encode(n int) ([][]byte, error) {
	out := make([][]byte, n)
	for i := range out {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		out[i] = bytes.Clone(p.encoded)
		copy(out[i][p.at:], name)
	}
	return out, nil
}
