package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// storedToken is a stored token. A token is replaced when it changes, and so is the
// slice of all, so that a snapshot shares both.
type storedToken struct {
	ID        string   `cbor:"1,keyasint"`
	Name      string   `cbor:"2,keyasint,omitempty"`
	Role      Role     `cbor:"3,keyasint"`
	Hash      [32]byte `cbor:"4,keyasint"`
	Expires   int64    `cbor:"5,keyasint,omitempty"`
	Uses      uint32   `cbor:"6,keyasint,omitempty"`
	Used      uint32   `cbor:"7,keyasint,omitempty"`
	CreatedAt int64    `cbor:"8,keyasint,omitempty"`
}

func (m *machine) findToken(id string) (int, bool) { return findToken(m.tokens, id) }

func findToken(tokens []*storedToken, id string) (int, bool) {
	return slices.BinarySearchFunc(tokens, id, func(t *storedToken, id string) int {
		return cmp.Compare(t.ID, id)
	})
}

func (m *machine) replaceToken(i int, t *storedToken) {
	m.tokens = slices.Clone(m.tokens)
	m.tokens[i] = t
}

// applyCreateToken stores a token's hash. When the bound is reached, expired
// tokens make room.
func (m *machine) applyCreateToken(e *envelope) (Result, error) {
	var c CreateToken
	if err := decodeCreateToken(e.body, &c); err != nil {
		return Result{}, err
	}
	i, exists := m.findToken(c.ID)
	if exists {
		return refuse(CodeConflict, "token %s exists", c.ID), nil
	}
	tokens := slices.Clone(m.tokens)
	if len(tokens) >= m.limits.Tokens {
		tokens = slices.DeleteFunc(tokens, func(t *storedToken) bool { return t.Expires != 0 && t.Expires <= m.now })
		if len(tokens) >= m.limits.Tokens {
			return refuse(CodeConflict, "there are %d tokens, the bound: revoke some", len(tokens)), nil
		}
		i, _ = findToken(tokens, c.ID)
	}
	m.tokens = slices.Insert(tokens, i, &storedToken{
		ID: c.ID, Name: c.Name, Role: c.Role, Hash: c.Hash, Expires: c.Expires, Uses: c.Uses, CreatedAt: m.now,
	})
	m.changes = append(m.changes, Change{Kind: ChangeToken})
	return Result{}, nil
}

func decodeCreateToken(b []byte, c *CreateToken) error {
	if err := decodeStrict(b, c); err != nil {
		return err
	}
	if err := validateText("token's ID", c.ID, 1, maxKeyBytes); err != nil {
		return err
	}
	if err := validateText("token's name", c.Name, 0, maxNameBytes); err != nil {
		return err
	}
	switch {
	case c.Role < RoleViewer || c.Role > RoleNode:
		return fmt.Errorf("unknown role %d", c.Role)
	case c.Hash == [32]byte{}:
		return fmt.Errorf("the token's hash is missing")
	case c.Expires < 0:
		return fmt.Errorf("the token's expiry is negative")
	}
	return nil
}

// applyRevokeToken makes a token useless at once.
func (m *machine) applyRevokeToken(e *envelope) (Result, error) {
	var c RevokeToken
	if err := decodeStrict(e.body, &c); err != nil {
		return Result{}, err
	}
	i, found := m.findToken(c.ID)
	if !found {
		return refuse(CodeNotFound, "no token %q", c.ID), nil
	}
	m.tokens = slices.Concat(m.tokens[:i], m.tokens[i+1:])
	m.changes = append(m.changes, Change{Kind: ChangeToken})
	return Result{}, nil
}
