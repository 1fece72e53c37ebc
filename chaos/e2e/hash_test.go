package e2e

import (
	"context"
	"fmt"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// guards P9
func TestStateHashesAgree(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{})
	lead, others := leader(t, ctx, c)
	cl := dial(t, c, others...)

	var ids []string
	for i := range 40 {
		spec := shell(fmt.Sprintf("mixed-%d", i), fmt.Sprintf("echo %d; exit %d", i, i%4))
		spec.Labels = map[string]string{"kind": fmt.Sprint(i % 3), "odd": fmt.Sprint(i%2 == 1)}
		spec.Retry = client.Retry{Limit: i % 2, Backoff: client.Duration(1e8)}
		if i%10 == 0 {
			spec = shell(spec.Name, forever)
		}
		ids = append(ids, submit(t, ctx, cl, spec).ID)
		if i == 20 {
			kill(t, lead)
		}
	}
	for i, id := range ids {
		if i%10 == 0 {
			if _, err := cl.Cancel(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := cl.CreateToken(ctx, client.TokenRequest{Role: "viewer", Name: "someone"}); err != nil {
		t.Fatal(err)
	}
	restart(t, ctx, c, lead)
	if _, err := cl.Drain(ctx, lead.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, err := cl.Wait(ctx, id); err != nil {
			t.Fatal(err)
		}
	}

	raws := make([]*raw, len(c.Nodes))
	for i, n := range c.Nodes {
		raws[i] = dialRaw(t, c, n)
	}
	until(t, ctx, "every node to be at the same index", func(ctx context.Context) error {
		want, hash, err := stateAt(ctx, raws[0])
		if err != nil {
			return err
		}
		for i, r := range raws[1:] {
			index, other, err := stateAt(ctx, r)
			if err != nil {
				return err
			}
			if index != want {
				return fmt.Errorf("indexes %d and %d", want, index)
			}
			if other != hash {
				t.Fatalf("at index %d nodes 1 and %d have the states %s and %s", index, i+2, hash, other)
			}
		}
		return nil
	})
}
