package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"holdfast/client"
)

const octets = "application/octet-stream"

func (s *server) registerCluster() {
	register(s, operation{
		id: "get-cluster", method: http.MethodGet, path: "/v1/cluster", tag: "cluster",
		summary: "Get the cluster's status", description: "As the answering node sees it: without a leader, too.",
		problems: []string{client.CodeUnavailable, client.CodeStaleTooOld},
	}, s.getCluster)
	register(s, operation{
		id: "transfer-leadership", method: http.MethodPost, path: "/v1/cluster/transfer", tag: "cluster", mutation: true, status: http.StatusNoContent,
		summary: "Make the leader hand over its office", problems: []string{client.CodeConflict, client.CodeUnavailable},
	}, s.transfer)
	register(s, operation{
		id: "save-snapshot", method: http.MethodGet, path: "/v1/snapshot", tag: "cluster", mutation: true, long: true, produces: octets,
		summary:     "Save a portable snapshot",
		description: "Tasks, API tokens (as hashes) and settings, in clear: keep it as the secret that it is. An answer that breaks off is no snapshot. It is audited like a change.",
		problems:    []string{client.CodeUnavailable},
	}, s.saveSnapshot)
	register(s, operation{
		id: "restore-snapshot", method: http.MethodPost, path: "/v1/snapshot", tag: "cluster", mutation: true, long: true, status: http.StatusNoContent,
		summary: "Restore a portable snapshot", description: "Replaces tasks, API tokens and settings. The cluster keeps its identity and its nodes.",
		consumes: []string{octets}, maxBody: s.limits.MaxSnapshotBody,
		problems: []string{client.CodeConflict, client.CodeUnavailable},
	}, s.restoreSnapshot)
}

// clusterInput reads the node's own view unless more is asked for: the status
// is what is looked at when there is no leader.
type clusterInput struct {
	Consistency string `query:"consistency" enum:"linearizable,stale" default:"stale"`
	MaxAge      string `query:"max_age" maxLength:"32"`
	MinIndex    uint64 `query:"min_index"`
	StateHash   bool   `query:"state_hash" doc:"Include the hash of the state at index; takes time with many tasks"`
}

type clusterOutput struct {
	Freshness
	Body *client.ClusterStatus
}

func (s *server) getCluster(ctx context.Context, _ *call, in *clusterInput) (*clusterOutput, error) {
	var out clusterOutput
	if in.Consistency != "stale" || in.MinIndex > 0 || in.MaxAge != "" {
		fresh, err := s.barrier(ctx, ReadParams{Consistency: in.Consistency, MaxAge: in.MaxAge, MinIndex: in.MinIndex})
		if err != nil {
			return nil, err
		}
		out.Freshness = fresh
	}
	status, err := s.cfg.Backend.Cluster(ctx, in.StateHash)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's status: %w", err)
	}
	out.Index, out.Body = max(out.Index, status.Index), status
	return &out, nil
}

type keyedInput struct{ Keyed }

func (s *server) transfer(ctx context.Context, c *call, _ *keyedInput) (*written, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.ProposeTimeout)
	defer cancel()
	if err := s.cfg.Backend.TransferLeadership(ctx); err != nil {
		return nil, fmt.Errorf("transfer leadership: %w", err)
	}
	return nil, nil
}

// lateHeader begins the answer with the first byte, so that what fails before
// is answered with a problem.
type lateHeader struct{ w *response }

func (l lateHeader) Write(b []byte) (int, error) {
	if l.w.status == 0 {
		l.w.begin(octets)
	}
	return l.w.Write(b)
}

func (s *server) saveSnapshot(ctx context.Context, c *call, _ *struct{}) (*written, error) {
	if err := s.cfg.Backend.SaveSnapshot(ctx, lateHeader{c.w}); err != nil {
		return nil, fmt.Errorf("save a snapshot: %w", err)
	}
	return nil, nil
}

func (s *server) restoreSnapshot(ctx context.Context, c *call, _ *keyedInput) (*written, error) {
	body := &idleReader{c: c, idle: s.limits.StreamIdle, now: s.cfg.Now}
	limited := http.MaxBytesReader(c.w, readCloser{body}, s.limits.MaxSnapshotBody)
	err := s.cfg.Backend.RestoreSnapshot(ctx, limited)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, newProblem(client.CodeTooLarge, "the snapshot has more than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("restore a snapshot: %w", err)
	}
	return nil, nil
}

// readCloser leaves closing to net/http.
type readCloser struct{ *idleReader }

func (readCloser) Close() error { return nil }
