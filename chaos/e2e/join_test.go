package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// exitCode runs a command of the binary and returns its status and its words.
func exitCode(t *testing.T, ctx context.Context, c *cluster.Cluster, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := c.Holdfast(ctx, c.Nodes[0], nil, args...)
	if err == nil {
		return 0, ""
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode(), err.Error()
}

// guards P6 P8
func TestJoinTokens(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Nodes: 1})
	other := start(t, ctx, cluster.Options{Nodes: 1})
	token := func(of *cluster.Cluster, req client.TokenRequest) *client.NewToken {
		t.Helper()
		made, err := dial(t, of).CreateToken(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	folders := 0
	join := func(token string) (int, string) {
		t.Helper()
		addr, err := cluster.FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		folders++
		dir := filepath.Join(filepath.Dir(c.Nodes[0].Dir), fmt.Sprintf("join%d", folders))
		return exitCode(t, ctx, c, "join", "--token", token, "--addr", c.Nodes[0].Addr, "--data", dir, "--listen", addr)
	}

	good := token(c, client.TokenRequest{Role: "node"})
	// The other's token leads nowhere: its own node is down.
	foreign := token(other, client.TokenRequest{Role: "node"})
	kill(t, other.Nodes...)
	short := token(c, client.TokenRequest{Role: "node", TTL: client.Duration(time.Millisecond)})
	revoked := token(c, client.TokenRequest{Role: "node"})
	if err := dial(t, c).RevokeToken(ctx, revoked.ID); err != nil {
		t.Fatal(err)
	}
	api := token(c, client.TokenRequest{Role: "admin"})
	swapped := []byte(good.Secret)
	swapped[20], swapped[30] = swapped[30], swapped[20]
	if string(swapped) == good.Secret {
		swapped[20] ^= 1
	}

	if code, say := join(good.Secret); code != 0 {
		t.Fatalf("a good token: status %d: %s", code, say)
	}
	for _, bad := range []struct {
		name, token string
		code        int
		says        string
	}{
		{"used", good.Secret, 4, "used up"},
		{"expired", short.Secret, 4, "expired"},
		{"revoked", revoked.Secret, 4, "no such join token"},
		{"mistyped", string(swapped), 2, "mistyped"},
		{"cut short", good.Secret[:len(good.Secret)-3], 2, "mistyped"},
		{"of the API", api.Secret, 2, "--role node"},
		{"no token at all", "open-sesame", 2, "hfj_"},
		{"of another cluster", foreign.Secret, 4, "pin"},
	} {
		code, say := join(bad.token)
		if code != bad.code || !strings.Contains(say, bad.says) {
			t.Errorf("%s: status %d, want %d and a word of %q:\n%s", bad.name, code, bad.code, bad.says, say)
		}
		if strings.Contains(say, bad.token) {
			t.Errorf("%s: the refusal repeats the token", bad.name)
		}
	}
	if nodes, err := dial(t, c).Nodes(ctx); err != nil || len(nodes.Nodes) != 2 {
		t.Errorf("want the first node and the one that joined: %v, %v", nodes, err)
	}
}
