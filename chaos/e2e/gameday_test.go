package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/chaos/gameday"
	"holdfast/client"
)

// A game day on a real cluster: the leader stands still by a signed order,
// another leads meanwhile, and its guardian heals it and sees it serve. With a
// node down there is nothing to spare, and the next order is refused.
func TestGameday(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	cl := dial(t, c)
	path := filepath.Join(t.TempDir(), "chaos.key")
	public, err := gameday.NewKey(path)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := gameday.ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := gameday.ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var guards []string
	for _, n := range c.Nodes {
		g, err := gameday.Open(ctx, n.Dir, pub)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(g.Handler())
		t.Cleanup(func() {
			srv.Close()
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
		guards = append(guards, strings.TrimPrefix(srv.URL, "http://"))
	}
	game := gameday.Game{
		Key: key, Guards: guards, Action: gameday.Pause, On: "leader", For: 3 * time.Second,
		Status: func(ctx context.Context) (*client.ClusterStatus, error) { return cl.Cluster(ctx, client.Stale(0)) },
		Tell:   t.Logf,
	}
	lead, _ := leader(t, ctx, c)
	before, err := cl.Cluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := gameday.Play(ctx, game)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Node != lead.ID || !rep.Healed || rep.InForce {
		t.Errorf("%+v", rep)
	}
	// The same node may lead again by now, but not in that office.
	until(t, ctx, "the leader that stood still for three seconds to lose its office", func(ctx context.Context) error {
		now, err := cl.Cluster(ctx)
		if err == nil && now.Term == before.Term {
			err = errors.New("the term is the same")
		}
		return err
	})

	down := c.Nodes[0]
	kill(t, down)
	until(t, ctx, "the cluster to see that nothing is to spare", func(ctx context.Context) error {
		st, err := cl.Cluster(ctx)
		if err == nil && st.Tolerates > 0 {
			err = context.DeadlineExceeded
		}
		return err
	})
	game.On, game.For = c.Nodes[1].ID, time.Second
	if rep, err := gameday.Play(ctx, game); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("with a node down the order was obeyed: %+v, %v", rep, err)
	}
}
