package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// Across a wire too, the kernel of a leader's host tells the followers that the
// process is gone, and one of them acts on it.
//
// guards P5
func TestDeathIsSeenAcrossAWire(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	w := layWires(t, 3)
	c := start(t, ctx, w.options())
	dead, others := leader(t, ctx, c)
	kill(t, dead)
	cl := dial(t, c, others[0])
	if _, err := cl.Submit(ctx, client.TaskSpec{Command: []string{"/bin/true"}}); err != nil {
		t.Fatal(err)
	}
	const verdict = `holdfast_consensus_evidence_total{kind="port_unreachable",outcome="verdict"} `
	until(t, ctx, "a verdict from the kernel's answer", func(ctx context.Context) error {
		for _, n := range others {
			text, err := metricsOf(ctx, n)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
				value, found := strings.CutPrefix(line, verdict)
				return found && value != "0"
			}) {
				return nil
			}
		}
		return fmt.Errorf("no node counts one")
	})
}

// metricsOf reads a node's metrics by its socket, which needs no network.
func metricsOf(ctx context.Context, n *cluster.Node) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.Dir, "holdfast.sock"))
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
