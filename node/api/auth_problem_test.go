package api

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"holdfast/client"
)

// A node that cannot tell whether a token is known must not say that it is
// not: a client gives up at 401 and comes back after 503.
func TestAuthProblemWhileBehind(t *testing.T) {
	p, note := authProblem(fmt.Errorf("cannot tell: %w", ErrNoLeader))
	if p.Status != http.StatusServiceUnavailable || p.code() != client.CodeUnavailable || note {
		t.Errorf("%+v, audited: %v", p, note)
	}
	if p, note := authProblem(errors.New("unknown token")); p.Status != http.StatusUnauthorized || !note {
		t.Errorf("%+v, audited: %v", p, note)
	}
}
