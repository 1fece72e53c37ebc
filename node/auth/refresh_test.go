package auth

import (
	"context"
	"errors"
	"testing"
	"time"

	"holdfast/fsm"
)

// A token that this node has not heard of yet is no unknown token, and no
// failure of who presents it. guards P4
func TestRefreshBeforeUnknown(t *testing.T) {
	secret := Secret{42}
	tokens := map[string]Token{}
	refreshed := 0
	behind := errors.New("no leader")
	var fails error
	a := New(Config{
		Lookup: func(id string) (Token, bool) { tok, ok := tokens[id]; return tok, ok },
		Refresh: func(context.Context) error {
			refreshed++
			if fails == nil {
				tokens["aaaaaaaaaa"] = Token{Role: fsm.RoleViewer, Hash: secret.Hash()}
			}
			return fails
		},
		StateNow: func() int64 { return 0 }, Now: func() time.Time { return time.Unix(1000, 0) },
	})
	valid := "Bearer " + FormatToken("aaaaaaaaaa", secret)

	fails = behind
	for range 10 * failureBurst {
		if _, _, err := a.Authenticate(request("1.2.3.4:5", valid)); !errors.Is(err, ErrCannotTell) || !errors.Is(err, behind) {
			t.Fatalf("while the state may be behind: %v", err)
		}
	}
	fails = nil
	if who, role, err := a.Authenticate(request("1.2.3.4:5", valid)); err != nil || who != "token:aaaaaaaaaa" || role != fsm.RoleViewer {
		t.Fatalf("after a refresh: %q %v %v", who, role, err)
	}
	before := refreshed
	if _, _, err := a.Authenticate(request("1.2.3.4:5", valid)); err != nil || refreshed != before {
		t.Errorf("a known token cost %d refreshes: %v", refreshed-before, err)
	}

	// Guessing is limited, and with it the work that it makes for others.
	guess := "Bearer " + FormatToken("bbbbbbbbbb", secret)
	for range 10 * failureBurst {
		if _, _, err := a.Authenticate(request("6.6.6.6:6", guess)); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
	}
	if n := refreshed - before; n != failureBurst {
		t.Errorf("guessing made %d refreshes, want %d", n, failureBurst)
	}
}
